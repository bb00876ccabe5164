"""A worker process: adopts the sockets that the supervisor accepted, and runs their sessions.

It holds nothing that has to be put in order when it dies. It must not know the supervisor's code:
the two meet in ``ipc`` alone.
"""
