"""One table of attempts of abuse, and servers of several makes that it is tried on.

The attempts know FTP and sockets, and nothing of how a server is built. `docs/abuse.md` shows what
came of them; `test_peers.py` holds it against the servers, `python -m tests.peers` prints it.
"""
