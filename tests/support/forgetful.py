"""A server behind a firewall that forgets a connection after some seconds of silence.

unshare --map-root-user --net python -m tests.support.forgetful

Prints as JSON how an upload ended for its client, with and without keepalive.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.apart import bring_up
from tests.support.cluster import Cluster
from tests.support.dialogue import DEADLINE, Dialogue

_REMEMBERED = 3
"""Seconds."""
_RULES = """table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    tcp flags syn / syn,ack ct state new accept
  }
}"""
_CONNTRACK = Path("/proc/sys/net/netfilter")


def main() -> None:
    bring_up("lo")
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    (_CONNTRACK / "nf_conntrack_tcp_timeout_established").write_text(str(_REMEMBERED))
    (_CONNTRACK / "nf_conntrack_tcp_loose").write_text("0")
    print(json.dumps({keepalive: _uploaded(keepalive) for keepalive in ("1", "0")}))


def _uploaded(keepalive: str) -> int | None:
    """The final reply to an upload that takes longer than ``_REMEMBERED``; None if none comes."""
    env = {"FTPCLUSTER__TIMEOUTS__KEEPALIVE": keepalive}
    arguments = ("--workers", "2", "--user", "user:12345", "--writable", "--root")
    with tempfile.TemporaryDirectory() as root:
        hosts = ("127.0.0.1",)
        with Cluster(*arguments, root, env=env, hosts=hosts) as cluster:
            client = Dialogue(cluster.port)
            client.logs_in()
            with socket.create_connection(("127.0.0.1", client.epsv()), DEADLINE) as data:
                client.says("STOR file", 150)
                end = time.monotonic() + 2 * _REMEMBERED
                while time.monotonic() < end:
                    data.sendall(b"x")
                    time.sleep(0.2)  # a slow client: the time is what is tested
            client.sock.settimeout(_REMEMBERED)
            try:
                return client.reply()[0]
            except TimeoutError:
                return None


if __name__ == "__main__":
    main()
