"""The command line: one module for each command, and the parts of ``run``.

It is the only package that may import every other one. No other package may import it, so nothing
that a library user needs may stand here. Nothing is imported here: a process that only loads a
configuration would load all commands.
"""
