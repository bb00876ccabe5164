"""An HTTP server for a few short answers, in threads. No client can hold it up."""

from __future__ import annotations

import itertools
import logging
import socket
import socketserver
import sys
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger(__name__)

_PAUSE = 0.2
"""Seconds between two tries to accept a connection for which there is no descriptor."""
_MOST = 16
"""Requests at once. One more ends the oldest, whose client most likely sends nothing. So a client
that sends a request still learns whether the server is well."""
_TOO_MANY = 2 * _MOST
"""Requests that wait for the loop do not end so. Beyond this number a new one is not answered."""
_DEADLINE = 10.0
"""Seconds for a request, from its connection to the last byte of the answer."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def answer_method(
    application: Application, environ: dict[str, Any], start: StartResponse
) -> Iterable[bytes]:
    """An application's answer. To HEAD, which monitors use, it is that to GET, without body."""
    if environ.get("REQUEST_METHOD") != "HEAD":
        return application(environ, start)
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    as_get = {**environ, "REQUEST_METHOD": "GET"}
    body = b"".join(application(as_get, lambda *head: heads.append(head)))
    status, headers = heads[0]
    start(status, [*headers, ("Content-Length", str(len(body)))])
    return ()


class HTTPServer(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A request takes a thread and a descriptor of the supervisor's: few at once, none for long."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._requests: dict[socket.socket, float] = {}  # the deadline of each
        self._lock = threading.Lock()
        super().__init__(*args)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # without a pause, accept would fail at once again, for ever
            time.sleep(_PAUSE)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._requests) >= _TOO_MANY:
                log.debug("metrics: %s is not answered: too many requests", client_address[0])
                return False
            # the first of them may have been shut down before, and still be ending
            beyond = max(0, len(self._requests) - _MOST + 1)
            for oldest in itertools.islice(self._requests, beyond):
                _shut_down(oldest)
            self._requests[request] = time.monotonic() + _DEADLINE
        return True

    def service_actions(self) -> None:
        """Called by the accepting thread between two connections, at least twice a second."""
        now = time.monotonic()
        with self._lock:  # so that no request is closed meanwhile
            for request, end in self._requests.items():
                if end <= now:
                    _shut_down(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._requests.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, OSError):
            log.debug("metrics: %s is gone: %s", client_address[0], error)
        else:
            super().handle_error(request, client_address)


def _shut_down(sock: socket.socket) -> None:
    """End the wait of the request's thread."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the client was quicker


class HTTPServerIPv6(HTTPServer):
    address_family = socket.AF_INET6


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no events."""
