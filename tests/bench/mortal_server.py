"""A server that lets clients in and does not survive a NOOP: PORT."""

import os
import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 Be careful.\r\n")
        for line in self.rfile:
            if line.startswith(b"NOOP"):
                os.write(2, b"I have been asked too much\n")
                os._exit(7)
            self.wfile.write(b"331 Who?\r\n" if line.startswith(b"USER") else b"230 Yes.\r\n")


class Mortal(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Mortal(("127.0.0.1", int(sys.argv[1])), Session) as server:
    server.serve_forever()
