"""The tables of the file about sockets and TLS, with their settings."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from ftpcluster.config.kinds import Addresses, Announced, File, Network, Port, PortRange, SourcePort
from ftpcluster.config.setting import Keyword, Setting, Table
from ftpcluster.protocol.address import is_ipv4
from ftpcluster.protocol.protection import Protection


def default_port() -> int:
    """FTP's own port for those who may use it."""
    return 21 if os.geteuid() == 0 else 2121


class Listen(Table, frozen=True, kw_only=True):
    """Where the server listens; one table for each port."""

    address: Annotated[
        Addresses,
        Setting(
            "the address, or addresses, to listen on",
            otherwise="all, IPv4 and IPv6",
            example='["0.0.0.0", "::"]',
            flag="--host ADDR...",
        ),
    ] = ()
    port: Annotated[
        Port,
        Setting(
            "the port; 0 takes a free one, and the `ready` line says which",
            "; needed for implicit TLS",
            otherwise="21 as root, else 2121",
            example="21",
            flag="--port P",
        ),
    ] = msgspec.field(default_factory=default_port)
    tls: Annotated[
        Protection,
        Setting(
            'clients may say AUTH TLS; `"implicit"`: TLS from the first byte; `"off"`: none',
            " (nor is there any without `[tls]`)",
        ),
    ] = Protection.EXPLICIT
    proxy_protocol: Annotated[
        tuple[Network, ...] | None,
        Setting(
            "connections come through a proxy in these networks, with the PROXY protocol",
            " (1 or 2), which says who the client is; all others are closed; data connections come "
            "from the same proxy, where each begins with a PROXY header as well, or straight from "
            "the client",
            otherwise="direct connections",
            example='["10.0.0.0/8"]',
            flag="--proxy-protocol NET...",
            keyword=Keyword("proxy_protocol", "Iterable[str] | None"),
        ),
    ] = None

    any_address: Annotated[
        bool | None,
        Setting("`data.any_address` for its clients", otherwise="as there", example="true"),
    ] = None


class TLSConfig(Table, frozen=True, kw_only=True):
    """Certificate and key, as PEM files, and what TLS is required for."""

    certificate: Annotated[
        File,
        Setting(
            "the certificate and its chain, as PEM: clients may say AUTH TLS",
            "; read on each reload",
            example='"fullchain.pem"',
            flag="--tls-cert FILE",
        ),
    ]
    key: Annotated[
        File | None,
        Setting(
            "its key, as PEM, not protected by a password",
            otherwise="in the certificate's file",
            example='"privkey.pem"',
            flag="--tls-key FILE",
        ),
    ] = None
    minimum_version: Annotated[
        Literal["1.2", "1.3"], Setting("the oldest version of TLS that clients may use")
    ] = "1.2"
    required: Annotated[
        bool,
        Setting(
            "logins only with TLS",
            flag="--require-tls",
            session="require_tls",
            keyword=Keyword("require_tls", "bool", default=False),
        ),
    ] = False
    required_data: Annotated[
        bool,
        Setting(
            "data connections only with TLS (PROT P)",
            session="require_tls_data",
            keyword=Keyword("require_tls_data", "bool", default=False),
        ),
    ] = False
    require_session_reuse: Annotated[
        bool,
        Setting(
            "protected data connections have to resume the control connection's TLS session",
            session="require_session_reuse",
            keyword=Keyword("require_session_reuse", "bool", default=False),
        ),
    ] = False
    strict_eof: Annotated[
        bool,
        Setting(
            "a protected upload that ends without close_notify is 426",
            "; some clients always end so",
            session="strict_tls_eof",
            keyword=Keyword("strict_tls_eof", "bool", default=False),
        ),
    ] = False
    client_ca: Annotated[
        File | None,
        Setting(
            "ask clients for certificates, which have to be of these authorities (PEM)",
            "; a client without one may log in, too",
            otherwise="clients are not asked",
            example='"clients.pem"',
        ),
    ] = None

    @property
    def key_file(self) -> str:
        return self.key or self.certificate

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files."""
        return tuple(filter(None, (self.certificate, self.key, self.client_ca)))


class Data(Table, frozen=True, kw_only=True):
    """Data connections."""

    ports: Annotated[
        PortRange | None,
        Setting(
            "ports for passive data connections, shared out among the workers",
            otherwise="any",
            example='"50000-50999"',
            flag="--data-ports A-B",
            keyword=Keyword("data_ports", "Iterable[int] | None"),
        ),
    ] = None
    masquerade: Annotated[
        Announced | None,
        Setting(
            "the IPv4 address, or the host name, that PASV names, for a server behind NAT",
            "; behind a proxy it is the proxy's public address; a name is looked up again every "
            "minute, and of several addresses it is the one that the client has reached, or the "
            "first",
            otherwise="the server's own; behind a proxy the one that the PROXY header says the "
            "client has reached",
            example='"203.0.113.7"',
            session="masquerade",
            flag="--masquerade [NET=]ADDR...",
            keyword=Keyword("ipv4_pasv_forced_response_address", "str | None"),
        ),
    ] = None
    masquerade_for: Annotated[
        dict[Network, Announced],
        Setting(
            "what PASV names to clients in some networks; the narrowest one decides",
            otherwise="none",
            example='{ "10.0.0.0/8" = "10.1.2.3" }',
            session="masquerade_for",
            keyword=Keyword("masquerade_for", "Mapping[str, str] | None"),
        ),
    ] = msgspec.field(default_factory=dict)
    active: Annotated[
        bool,
        Setting(
            "whether the server connects to clients; if not, PORT and EPRT are 502",
            session="active",
        ),
    ] = True
    active_port: Annotated[
        SourcePort | None,
        Setting(
            "the port that these connections come from, where clients' firewalls expect 20",
            "; one below 1024 needs root, or CAP_NET_BIND_SERVICE, which workers then keep. If "
            "an earlier connection to the same port of a client ended within the last minute, the "
            "next one comes from another port",
            otherwise="any",
            example="20",
            session="active_port",
            keyword=Keyword("active_port", "int | None"),
        ),
    ] = None
    any_address: Annotated[
        bool | None,
        Setting(
            "whether data connections may come from another address than their client's",
            ", for networks that change it on the way (NAT, several providers). **Anybody who "
            "guesses the port can take a client's place**: require TLS and the session's reuse. If "
            "not, such connections are closed and counted in the log, and 425 mentions them to a "
            "client whose own does not come",
            session="any_address",
            fallback=False,
            keyword=Keyword("any_address", "bool", default=False),
        ),
    ] = None

    @property
    def host_names(self) -> frozenset[str]:
        """The names that have to be looked up."""
        given = (self.masquerade, *self.masquerade_for.values())
        return frozenset(each for each in given if each is not None and not is_ipv4(each))
