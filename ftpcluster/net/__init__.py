"""Sockets: the poller, streams with and without TLS, the accept loop, and data ports.

It must not know FTP commands, users, files or limits. Its callers decide who may connect, and
read meaning into the bytes.
"""
