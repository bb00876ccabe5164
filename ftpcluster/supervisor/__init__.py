"""The supervisor process: accepts connections, counts them, and keeps workers alive.

It reads no byte that a client sent, and does not trust its workers. It must not import sessions,
storages, ``compat`` or the worker's code.
"""
