"""Calls of OpenSSL that the ssl module does not offer: used where it is what we take it for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from ftpcluster.net import tls_sessions


@pytest.fixture(autouse=True)
def again() -> Iterator[None]:
    """Each test looks for itself."""
    tls_sessions._openssl.cache_clear()
    yield
    tls_sessions._openssl.cache_clear()


def test_the_calls_are_found_here() -> None:
    assert tls_sessions._openssl() is not None


def test_another_library_than_that_of_the_module_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_NUMBER", ssl.OPENSSL_VERSION_NUMBER + 1)
    assert tls_sessions._openssl() is None


@pytest.mark.parametrize("moved", [-8, 8, 16])
def test_objects_of_another_shape_are_not_touched(
    monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    monkeypatch.setattr(tls_sessions, "_HEAD", tls_sessions._HEAD + moved)
    assert tls_sessions._openssl() is None


def test_a_module_that_is_part_of_python_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import _ssl

    monkeypatch.delattr(_ssl, "__file__")
    assert tls_sessions._openssl() is None
