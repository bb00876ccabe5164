"""The accounting of limits: connections, logins, speeds, failed logins and bans.

It is pure: time is an argument, and there is no I/O. It must not know sockets, an event loop or
sessions. The library and the supervisor count with the same code.
"""
