"""docs/watching.md names what a running server tells, and nothing else."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import trustme
from prometheus_client.parser import text_string_to_metric_families

from ftpcluster.cli.main import STEERING, cli
from ftpcluster.supervisor.worker_handle import Phase
from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue

PAGE = (Path(__file__).parent.parent / "docs" / "watching.md").read_text()
METRIC = re.compile(r"^\| (`ftpcluster_\w+`.*?) \|(.*?)\| .+ \|$", re.MULTILINE)


def documented() -> dict[str, dict[str, list[str]]]:
    """By metric: its labels, with the values that the page gives."""
    found = {}
    for names, labels in METRIC.findall(PAGE):
        first, *more = re.findall(r"`(\w+)`", names)
        groups = labels.split(";") if ":" in labels else labels.split(",")
        parts = [re.findall(r"`([^`]+)`", group) for group in groups]
        of = {part[0]: part[1:] for part in parts if part}
        for name in (first, *(first.removesuffix("_count") + each for each in more)):
            found[name] = of
    return found


def test_the_page_has_every_metric_with_its_labels(root: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    flags = ["--root", str(root), "--metrics", "127.0.0.1:0", "--download-limit", "1GB"]
    flags += ["--tls-cert", str(certificate)]
    with Cluster("--workers", "2", *flags, "--max-connections", "9") as cluster:
        where = cluster.wait_for(re.compile(r"metrics on (\S+)"))[1]

        def told() -> dict[str, set[tuple[str, str]]]:
            with urllib.request.urlopen(where, timeout=20) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            found: dict[str, set[tuple[str, str]]] = {}
            for sample in (sample for family in families for sample in family.samples):
                found.setdefault(sample.name, set()).update(sample.labels.items())
            return found

        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")
            client.downloads("LIST")
            seen = until(lambda: "ftpcluster_transfers_total" in (now := told()) and now)
    page = documented()
    assert sorted(page) == sorted(seen)
    for name, labels in page.items():
        assert sorted(labels) == sorted({label for label, _ in seen[name]}), name
        for label, values in labels.items():
            if values:
                assert {value for key, value in seen[name] if key == label} <= set(values), name


def test_the_page_has_every_state_of_a_worker() -> None:
    (text,) = re.findall(r"^\| STATE \| (.*) \|$", PAGE, re.MULTILINE)
    states = {phase.value for phase in Phase if phase is not Phase.GONE}
    assert set(re.findall(r"`(\w+)`", text)) == {*states, "suspect"}


def test_the_page_has_every_order_and_no_other() -> None:
    named = set(re.findall(r"`ftpcluster (\w+)", PAGE))
    assert named == {command.name for command in STEERING}
    assert named <= set(cli.commands)
