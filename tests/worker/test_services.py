"""What a worker's sessions share is made as the configuration says."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from ftpcluster.config import Config, StorageConfig, WorkerConfig
from ftpcluster.config.sessions import session_defaults
from ftpcluster.quota.ledger import ConnectionLimits, Ledger
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.services import Settings
from ftpcluster.worker.worker_services import make_services


@pytest.mark.parametrize("threads", [1, 3])
async def test_file_operations_that_block_have_as_many_threads_as_the_file_says(
    threads: int,
) -> None:
    worker = WorkerConfig(index=0, config=Config(storage=StorageConfig(threads=threads)))
    quotas = LocalQuotas(Ledger(ConnectionLimits()))
    services = make_services(asyncio.get_running_loop(), worker, quotas)
    try:
        assert isinstance(services.pool, ThreadPoolExecutor)
        assert services.pool._max_workers == threads
    finally:
        services.close()


def test_sessions_have_a_field_for_every_key_that_names_one_and_a_default_for_the_others() -> None:
    fields = {each.name: each for each in dataclasses.fields(Settings)}
    needed = {name for name, each in fields.items() if each.default is dataclasses.MISSING}
    assert needed == session_defaults().keys()
