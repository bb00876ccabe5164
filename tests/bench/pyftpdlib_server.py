"""pyftpdlib, without limits: PORT ROOT LOGIN PASSWORD CERTIFICATE, the last empty for no TLS."""

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer

logging.basicConfig(level=logging.WARNING)
port, root, login, password, certificate = sys.argv[1:]
handler = TLS_FTPHandler if certificate else FTPHandler
if certificate:
    handler.certfile = certificate
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(login, password, root, perm="elradfmwMT")
server = FTPServer(("127.0.0.1", int(port)), handler, backlog=1024)
server.max_cons, server.max_cons_per_ip = 100_000, 0
server.serve_forever()
