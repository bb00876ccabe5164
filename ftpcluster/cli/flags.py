"""Flags → Config: what each flag means, and what is wrong with it."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from ftpcluster.config import (
    Config,
    ConfigError,
    Limits,
    Loop,
    PermissionConfig,
    TLSConfig,
    UserConfig,
    available_cores,
    parse_size,
)
from ftpcluster.net.certificates import BadCertificate, make_context
from ftpcluster.protocol.address import is_ipv4

_READ_ONLY = (PermissionConfig("/", read=True, write=False),)
_ANONYMOUS = ("anonymous", "ftp")
_LOGIN = re.compile(r"[^:\s\x00-\x1f\x7f]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"[0-9.]+")


def make_config(
    *,
    workers: int | None,
    hosts: tuple[str, ...],
    port: int | None,
    root: Path,
    users: tuple[str, ...],
    anonymous: bool,
    writable: bool,
    data_ports: str | None,
    masquerades: tuple[str, ...],
    proxies: tuple[str, ...],
    max_connections: int | None,
    max_connections_per_user: int | None,
    max_connections_per_address: int | None,
    download_limit: str | None,
    upload_limit: str | None,
    download_limit_per_user: str | None,
    upload_limit_per_user: str | None,
    server: str | None,
    user_manager: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    implicit_tls_port: int | None,
    require_tls: bool,
    loop: Loop,
    log_level: Any,
) -> Config:
    """The configuration that the flags stand for. Raises ConfigError."""
    count = available_cores() if workers is None else workers
    if count < 1:
        raise ConfigError(f"--workers {count}: at least one worker is needed")
    for flag, most in (
        ("--max-connections", max_connections),
        ("--max-connections-per-user", max_connections_per_user),
        ("--max-connections-per-address", max_connections_per_address),
    ):
        if most is not None and most < 1:
            raise ConfigError(f"{flag} {most}: at least 1 is needed")
    if port is None:
        port = 21 if os.geteuid() == 0 else 2121
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: expected a number from 0 to 65535")
    return Config(
        workers=count,
        users=tuple(
            msgspec.structs.replace(
                account,
                connections=max_connections_per_user,
                download=_speed("--download-limit-per-user", download_limit_per_user),
                upload=_speed("--upload-limit-per-user", upload_limit_per_user),
            )
            for account in _accounts(users, _folder(root), anonymous=anonymous, writable=writable)
        ),
        hosts=hosts,
        port=port,
        data_ports=None if data_ports is None else _port_range(data_ports, count),
        masquerade=_masquerade(masquerades),
        masquerade_for=_masquerades_for(masquerades),
        proxy_protocol=tuple(_network(f"--proxy-protocol {net}", net) for net in proxies) or None,
        limits=Limits(
            connections=max_connections,
            connections_per_address=max_connections_per_address,
            download=_speed("--download-limit", download_limit),
            upload=_speed("--upload-limit", upload_limit),
        ),
        tls=_tls(tls_cert, tls_key, implicit_tls_port, required=require_tls),
        server=server,
        user_manager=user_manager,
        loop=loop,
        log_level=log_level,
    )


def _tls(
    certificate: Path | None, key: Path | None, implicit_port: int | None, *, required: bool
) -> TLSConfig | None:
    if certificate is None:
        for flag, given in (
            ("--tls-key", key is not None),
            ("--implicit-tls-port", implicit_port is not None),
            ("--require-tls", required),
        ):
            if given:
                raise ConfigError(f"{flag} needs --tls-cert")
        return None
    if implicit_port is not None and not 0 <= implicit_port <= 65535:
        raise ConfigError(f"--implicit-tls-port {implicit_port}: expected 0 to 65535")
    config = TLSConfig(
        certificate=str(certificate.absolute()),
        key=str((key or certificate).absolute()),
        required=required,
        implicit_port=implicit_port,
    )
    check_certificates(config)
    return config


def check_certificates(config: TLSConfig) -> None:
    try:
        make_context(config.certificate, config.key, client_ca=config.client_ca)
    except BadCertificate as error:
        raise ConfigError(f"--tls-cert, --tls-key: {error}") from None


def _folder(root: Path) -> str:
    try:
        path = root.resolve(strict=True)
        if not path.is_dir():
            raise ConfigError(f"--root {root}: not a folder")
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        (path / ".").stat()  # reading its names needs no more than the first; files need this
    except FileNotFoundError:
        raise ConfigError(f"--root {root}: there is no such folder") from None
    except PermissionError:
        raise ConfigError(
            f"--root {root}: not permitted; the server may not read this folder"
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = error.strerror if isinstance(error, OSError) else "too many levels of links"
        raise ConfigError(f"--root {root}: {why}") from None
    return str(path)


def _accounts(
    texts: tuple[str, ...], root: str, *, anonymous: bool, writable: bool
) -> tuple[UserConfig, ...]:
    accounts = [_account(text, root, writable=writable) for text in texts]
    logins = [account.login for account in accounts]
    for login in logins:
        os.environ.pop(_variable(login), None)  # the workers need not inherit it
        if logins.count(login) > 1:
            raise ConfigError(f"--user {login}: given twice")
    if anonymous or not texts:
        accounts += [
            UserConfig(login=name, password=None, root=root, permissions=_READ_ONLY)
            for name in _ANONYMOUS
            if name not in logins
        ]
    return tuple(accounts)


def _account(text: str, root: str, *, writable: bool) -> UserConfig:
    login, colon, password = text.partition(":")
    if not _LOGIN.fullmatch(login):
        # a password could stand where the name should: it is not repeated
        raise ConfigError("--user: expected NAME:PASSWORD, with a name that has no space in it")
    if not colon:
        variable = _variable(login)
        if variable not in os.environ:
            raise ConfigError(
                f"--user {login}: no password; give {login}:PASSWORD or set {variable}"
            )
        password = os.environ[variable]
    if not password:
        raise ConfigError(f"--user {login}: the password is empty")
    permissions = (PermissionConfig("/"),) if writable else _READ_ONLY
    return UserConfig(login=login, password=password, root=root, permissions=permissions)


def _variable(login: str) -> str:
    """The environment variable that may hold a password."""
    return "FTPCLUSTER_USER_" + re.sub(r"\W", "_", login.upper())


def _speed(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError:
        raise ConfigError(
            f'{flag} {text}: expected bytes per second such as "10MB" or "10MiB"'
        ) from None


def _port_range(text: str, workers: int) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise ConfigError(f"--data-ports {text}: expected a range such as 50000-50999")
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last <= 65535:
        raise ConfigError(f"--data-ports {text}: expected ports from 1 to 65535, lower one first")
    if last - first + 1 < workers:
        raise ConfigError(
            f"--data-ports {text}: {last - first + 1} ports are too few for {workers} workers"
        )
    return first, last


def _masquerade(texts: tuple[str, ...]) -> str | None:
    """The address for all clients."""
    found = [_announced(text, text) for text in texts if "=" not in text]
    if len(found) > 1:
        raise ConfigError(f"--masquerade {found[1]}: the address for all clients is given already")
    return found[0] if found else None


def _masquerades_for(texts: tuple[str, ...]) -> dict[str, str]:
    """The addresses for clients in some networks."""
    found: dict[str, str] = {}
    for text in texts:
        network, equals, address = text.partition("=")
        if equals:
            found[_network(f"--masquerade {text}", network)] = _announced(text, address)
    return found


def _announced(flag: str, text: str) -> str:
    if not _HOST.fullmatch(text) or (_NUMBERS.fullmatch(text) and not is_ipv4(text)):
        raise ConfigError(
            f"--masquerade {flag}: expected an IPv4 address such as 203.0.113.7, or a host name"
        )
    return text


def _network(flag: str, text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None
