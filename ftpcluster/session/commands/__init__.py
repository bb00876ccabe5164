"""The commands: one table, and one module of handlers for each group.

A handler gets the session and an argument, and returns one final reply or raises. It must not write
to the control connection, and must not know the server-PI that calls it.
"""
