"""Every system call may fail. ``bench`` says what must hold then, ``calls`` has the faults.

By default a sample of the faults of three scripts is tried, with ``-m slow`` one of all scripts,
with ``-m soak`` every fault. By hand: ``python -m tests.faults``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.faults.bench import Bench, Fault, Outcome, sample, stop_under
from tests.faults.scripts import SCRIPTS

MakeBench = Callable[..., Bench]
OF_UPLOADS = ("stor", "stor_rest", "appe")
OF_SUPERVISOR = ("accepted", "login", "reload")
OF_WORKER = [script for script in SCRIPTS if script != "reload"]
WAITING = ("active", "protected", "retr_passive", "wrong_login")
"""Scripts in which the server waits, a second or so each time."""
STOPS = 30
"""Faults that are tried while a server stops: each takes a server."""


@pytest.fixture
def make_bench(tmp_path: Path) -> MakeBench:
    """A function that makes benches whose servers have a certificate."""
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    authority.configure_trust(context)

    def make(**options: object) -> Bench:
        return Bench(tmp_path, certificate, context, **options)  # type: ignore[arg-type]

    return make


def survives(bench: Bench, script: str, choose: Callable[[list[Fault]], list[Fault]]) -> Outcome:
    outcome = Outcome()
    bench.try_faults(script, choose(list(bench.faults(script))), outcome)
    survived = outcome.injected - len(outcome.wrong)
    print(
        f"{script}: {outcome.injected} faults, {survived} survived; "
        f"{outcome.missed} whose call was not made this time"
    )
    assert outcome.injected, "no fault was injected"
    assert not outcome.wrong, "\n".join(f"{fault}: {wrong}" for fault, wrong in outcome.wrong)
    return outcome


@pytest.mark.parametrize("script", ["stor", "retr", "listings"])
def test_each_call_of_a_transfer_may_fail(make_bench: MakeBench, script: str) -> None:
    """With one error, and only the first call of each name: ``-m slow`` tries more."""
    with make_bench() as bench:
        survives(bench, script, lambda faults: sample(faults, 1, most_nth=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", OF_WORKER)
def test_each_call_of_each_script_may_fail(make_bench: MakeBench, script: str) -> None:
    with make_bench() as bench:
        most = 1 if script in WAITING else 3
        survives(bench, script, lambda faults: sample(faults, 1, most_nth=most))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", OF_UPLOADS)
def test_each_call_of_atomic_and_durable_uploads_may_fail(
    make_bench: MakeBench, script: str
) -> None:
    with make_bench(is_atomic=True) as bench:
        survives(bench, script, lambda faults: sample(faults, 1, most_nth=3))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", OF_SUPERVISOR)
def test_each_call_of_the_supervisor_may_fail(make_bench: MakeBench, script: str) -> None:
    with make_bench(process="supervisor") as bench:
        most = 1 if script == "reload" else 3
        survives(bench, script, lambda faults: sample(faults, 1, most_nth=most))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("is_atomic", [False, True], ids=["in place", "atomic and durable"])
@pytest.mark.parametrize("script", OF_WORKER)
def test_every_fault(make_bench: MakeBench, script: str, is_atomic: bool) -> None:
    if is_atomic and script not in OF_UPLOADS:
        pytest.skip("no upload")
    with make_bench(is_atomic=is_atomic) as bench:
        survives(bench, script, list)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("script", OF_SUPERVISOR)
def test_every_fault_of_the_supervisor(make_bench: MakeBench, script: str) -> None:
    with make_bench(process="supervisor") as bench:
        survives(bench, script, list)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("process", ["supervisor", "worker"])
def test_a_server_whose_calls_fail_while_it_stops_ends(make_bench: MakeBench, process: str) -> None:
    """A sample, since each fault takes a server."""

    def make() -> Bench:
        return make_bench(process=process)

    faults, wrong = stop_under(make, None)
    assert not wrong, wrong
    faults = sample(faults, 1)
    chosen = faults[:: max(1, len(faults) // STOPS)]
    found = [(fault, wrong) for fault in chosen if (wrong := stop_under(make, fault)[1])]
    print(f"stop of a {process}: {len(chosen)} faults, {len(chosen) - len(found)} survived")
    assert not found, "\n".join(f"{fault}: {wrong}" for fault, wrong in found)
