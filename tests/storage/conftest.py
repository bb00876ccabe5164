"""The local storage, over each of the two ways to stay beneath a root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftpcluster.storage import contained
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from tests.support.awaited import Awaited


@pytest.fixture(params=["openat2", "walk"])
def storage(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A storage over each of the two ways to stay beneath a root."""
    if request.param == "walk":
        monkeypatch.setattr(contained, "has_openat2", lambda directory: False)
    opened = Root(root)
    if request.param == "openat2" and not contained.has_openat2(opened.fd):
        pytest.skip("this kernel, or a seccomp filter, refuses openat2")
    return Awaited(LocalStorage(opened))
