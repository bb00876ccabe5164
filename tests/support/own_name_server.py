"""Looks up a host name under the filter of system calls, at a name server of its own.

unshare --map-root-user --net python -m tests.support.own_name_server

Prints as JSON the address that ``getaddrinfo`` finds for any family, and for IPv4.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from ftpcluster.prctl import no_new_privs
from ftpcluster.worker.seccomp import do_without_sendmsg, restrict
from tests.support.apart import bring_up
from tests.support.hanging import bind, separate

ADDRESS = "127.0.0.2"
_A = 1


def main() -> None:
    bring_up("lo")
    separate()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    with TemporaryDirectory() as etc:
        (Path(etc) / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2\n")
        (Path(etc) / "nsswitch.conf").write_text("hosts: dns\n")
        bind(etc, "/etc")
        no_new_privs()
        do_without_sendmsg()
        done = restrict()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        found = [socket.getaddrinfo("db.example", 5432, family) for family in (0, socket.AF_INET)]
    print(json.dumps({"done": done, "found": [each[0][4][0] for each in found]}))


def _serve(sock: socket.socket) -> None:
    """Answer that every name has ``ADDRESS``, and no IPv6 address."""
    while True:
        query, client = sock.recvfrom(512)
        end = query.index(0, 12) + 5
        (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
        counts = struct.pack(">HHHH", 1, kind == _A, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 60, 4) + socket.inet_aton(ADDRESS)
        answer = query[:2] + b"\x81\x80" + counts + query[12:end] + record * (kind == _A)
        sock.sendto(answer, client)


if __name__ == "__main__":
    main()
