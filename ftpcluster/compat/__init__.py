"""aioftp's API on the core: ``Server``, verbs as methods, ``Connection``, path layers.

It uses only what the core offers to everybody. The core must not know it, and it must not know
processes: supervisor, messages and the command line.
"""
