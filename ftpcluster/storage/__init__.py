"""Files: the protocols ``Storage`` and ``File``, and the local file system, held beneath a root.

Its paths are virtual and absolute. It must not know sessions, users or permissions: its
caller has checked these.
"""
