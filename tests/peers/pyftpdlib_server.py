"""pyftpdlib as its manual shows it, in a process of its own. What it is told is JSON in argv.

``weak`` names what is taken from it, so that attempts succeed that it knows how to refuse. Prints
its port once it serves; ends with its stdin, whatever it is doing then.
"""

import hashlib
import json
import os
import shutil
import sys
import threading
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS, UnixFilesystem
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

ALL = "elradfmwMT"


class Hiding(AbstractedFS):  # type: ignore[misc, unused-ignore]
    """Has files that nobody sees, and that go with their directory."""

    def listdir(self, path: str) -> list[str]:
        return [name for name in os.listdir(path) if not name.startswith(".")]

    def rmdir(self, path: str) -> None:
        if self.listdir(path):
            os.rmdir(path)
        else:
            shutil.rmtree(path)


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def serve(told: dict[str, Any]) -> None:
    root = told["root"]
    authorizer = DummyAuthorizer()
    authorizer.add_user(*told["user"], root, perm=ALL)
    authorizer.add_user(*told["plain"], root, perm=ALL)
    authorizer.add_user(*told["bob"], root, perm=ALL)
    authorizer.add_user(*told["limited"], root, perm="elr")
    authorizer.override_perm("limited", f"{root}/foo", "", recursive=True)
    authorizer.override_perm("limited", f"{root}/foobar", ALL, recursive=True)
    authorizer.override_perm("limited", f"{root}/drop", "adfmwMT", recursive=True)
    handler = TLS_FTPHandler
    handler.authorizer = authorizer
    handler.certfile = told["certificate"]
    handler.auth_failed_timeout = told["delay"] if told["strict"] else 0
    if told["strict"]:
        handler.timeout = told["idle"]
        handler.passive_ports = told["ports"]
        handler.passive_dtp.timeout = told["idle"]
    if "directories" in told["weak"]:
        handler.abstracted_fs = UnixFilesystem
    if "leftovers" in told["weak"]:
        handler.abstracted_fs = Hiding
    if "permissions" in told["weak"]:
        authorizer.override_perm("limited", f"{root}/foo", "elr", recursive=True)
    if "addresses" in told["weak"]:
        handler.permit_foreign_addresses = True
    if "ports" in told["weak"]:
        handler.permit_privileged_ports = True
    if "deadlines" in told["weak"]:
        handler.timeout = None
    if "times" in told["weak"]:
        check = authorizer.validate_authentication

        def hash_if_known(name: str, password: str, session: Any) -> None:
            if authorizer.has_user(name):
                hashlib.scrypt(b"", salt=b"", n=2**12, r=8, p=1)
            check(name, password, session)

        authorizer.validate_authentication = hash_if_known
    server = FTPServer(("127.0.0.1", 0), handler)
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()


threading.Thread(target=end_with_stdin, daemon=True).start()
serve(json.loads(sys.argv[1]))
