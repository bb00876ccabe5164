"""Data connections from another address than the client's: protocol.md, "Data connections"."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from pathlib import Path

import pytest

from ftpcluster.net import refused
from tests.session.conftest import Maker
from tests.session.proxied import CLIENT, PROXY, comes_from, through, v1
from tests.support.cluster import Cluster, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue, rest_of

OTHER_HOST = "127.0.0.9"
REFUSED = "No data connection was made from your address; one from another address was refused."
LINE = (
    r"refused (\d+) connections? to data ports from other addresses, the last one of 127\.0\.0\.9, "
    r"where a client at 127\.0\.0\.1 was expected"
)


def arrives(port: int, when: str) -> socket.socket:
    """Another host's connection, that the server has dropped where it comes early enough."""
    sock = comes_from(OTHER_HOST, port)
    if when == "early":  # before the command, so that the early acceptor sees it
        assert rest_of(sock) == b""
    return sock


@pytest.mark.parametrize("when", ["at once", "early", "while the command waits"])
@pytest.mark.parametrize("command", ["RETR file", "STOR new", "MLSD"])
def test_the_425_says_that_another_address_came(
    serve: Maker, caplog: pytest.LogCaptureFixture, when: str, command: str
) -> None:
    caplog.set_level(logging.INFO)
    (serve.directory / "file").write_bytes(b"content")
    with Dialogue(serve(data_timeout=0.5)) as client:
        client.logs_in()
        port = client.epsv()
        if when == "while the command waits":
            client.says(command, 150)
            arrives(port, when).close()
        else:
            arrives(port, when).close()
            client.says(command, 150)
        assert client.expects(425) == f"425 {REFUSED}"
        client.epsv()
        client.says(command, 150)
        assert client.expects(425) == "425 No data connection was made."
    assert re.search(LINE, caplog.text), caplog.text


def test_listening_goes_on_for_the_client(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    port = client.epsv()
    with comes_from(OTHER_HOST, port), comes_from("127.0.0.1", port) as data:
        client.says("RETR file", 150)
        assert rest_of(data) == b"content"
    client.expects(226)


def test_a_protected_connection_is_told_of_it_too(
    serve: Maker, server_context: ssl.SSLContext
) -> None:
    port = serve(data_timeout=0.5, ssl=server_context)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", port), 20)
    with context.wrap_socket(sock) as protected:
        client = Dialogue.__new__(Dialogue)
        client.host, client.source, client.sock, client._buffer = "127.0.0.1", None, protected, b""
        client.expects(220)
        client.logs_in()
        comes_from(OTHER_HOST, client.epsv()).close()
        client.says("LIST", 150)
        assert client.expects(425) == f"425 {REFUSED}"


def test_the_log_counts_them(
    serve: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(refused, "_INTERVAL", 0.5)
    with Dialogue(serve(data_timeout=30)) as client:
        client.logs_in()
        port = client.epsv()
        client.says("LIST", 150)
        for _ in range(50):
            comes_from(OTHER_HOST, port).close()
        until(lambda: sum(map(int, re.findall(LINE, caplog.text))) == 50)
    assert len(re.findall(LINE, caplog.text)) < 50


def test_a_cluster_logs_both_addresses(tmp_path: Path) -> None:
    with Cluster("--workers", "2", "--user", "user:12345", "--root", str(tmp_path)) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            port = client.epsv()
            client.says("LIST", 150)
            with comes_from(OTHER_HOST, port) as sock:
                assert rest_of(sock) == b""
            cluster.wait_for(re.compile(LINE))


# ---------------------------------------------------------------------- any address


@pytest.mark.parametrize("when", ["before", "after", "early"])
def test_any_address_will_do_where_that_is_configured(serve: Maker, when: str) -> None:
    (serve.directory / "file").write_bytes(b"content")
    with Dialogue(serve(any_address=True)) as client:
        client.logs_in()
        for host in (OTHER_HOST, "127.0.0.1"):
            port = client.epsv()
            if when == "after":
                client.says("RETR file", 150)
                data = comes_from(host, port)
            else:
                data = comes_from(host, port)
                if when == "early":
                    data.settimeout(0.2)
                    with pytest.raises(TimeoutError):  # it is kept, and not dropped
                        data.recv(1)
                client.says("RETR file", 150)
            with data:
                data.settimeout(20)
                assert rest_of(data) == b"content"
            client.expects(226)


def test_it_may_be_for_the_clients_of_one_port(tmp_path: Path) -> None:
    text = (
        '[[listen]]\naddress = "127.0.0.1"\nport = 0\nany_address = true\n'
        '[[listen]]\naddress = "127.0.0.1"\nport = 0\n[timeouts]\ndata = "1s"\n'
        '[[user]]\nlogin = "user"\npassword = "plain:12345"\nroot = "."\n'
    )
    with configured(tmp_path, text, hosts=None) as cluster:
        ports = [int(each) for each in re.findall(r"127\.0\.0\.1:(\d+)", cluster.log)][:2]
        for port, code in zip(ports, (226, 425), strict=True):
            with Dialogue(port) as client:
                client.logs_in()
                data = client.epsv()
                client.says("LIST", 150)
                with comes_from(OTHER_HOST, data):
                    client.expects(code)


@pytest.mark.parametrize("through_proxy", [True, False])
def test_behind_a_proxy_too(serve: Maker, *, through_proxy: bool) -> None:
    (serve.directory / "file").write_bytes(b"content")
    port = serve(any_address=True, proxy_protocol=[PROXY])
    with through(port, v1(CLIENT)) as client:
        client.logs_in()
        with comes_from(PROXY if through_proxy else OTHER_HOST, client.epsv()) as data:
            if through_proxy:
                data.sendall(v1(OTHER_HOST))
            client.says("RETR file", 150)
            assert rest_of(data) == b"content"
        client.expects(226)


def test_behind_a_proxy_the_log_has_the_address_in_the_header(
    serve: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = serve(data_timeout=1, proxy_protocol=[PROXY])
    with through(port, v1(CLIENT)) as client:
        client.logs_in()
        with comes_from(PROXY, client.epsv()) as data:
            data.sendall(v1(OTHER_HOST))
            client.says("LIST", 150)
            assert client.expects(425) == f"425 {REFUSED}"
    assert f"the last one of {OTHER_HOST}, where a client at {CLIENT} was expected" in caplog.text
