"""Files: the interfaces ``Storage`` and ``File``, and the local file system, beneath a root.

Its paths are virtual and absolute. It must not know sessions, users or permissions: its
caller has checked these.
"""
