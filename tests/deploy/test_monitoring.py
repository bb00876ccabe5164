"""Rules and dashboard for Prometheus, held against what a running server tells."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import DEADLINE, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.programs import attempt, need
from tests.support.shipped import DEPLOY, METRICS

PROMETHEUS = DEPLOY / "prometheus"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "ftpcluster.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [
    target["expr"] for panel in PANELS for target in panel["targets"]
]
CONFIG = """
[tls]
certificate = "server.pem"
[data]
active = false
[timeouts]
data = "1s"
[limits]
connections = 50
download = "100MB"
upload = "100MB"
[metrics]
listen = "127.0.0.1:0"
[[user]]
login = "user"
password = "plain:12345"
root = "."
"""
SCRAPED = ("instance", "job")
"""Labels that Prometheus adds itself."""
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')

Values = dict[str, set[str]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Values]]:
    """Labels, and what values they had, of each metric of a server that has done a bit of all."""
    directory = tmp_path_factory.mktemp("directory")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    with configured(directory, CONFIG) as cluster:
        base = f"http://127.0.0.1:{cluster.wait_for(METRICS)[1]}"
        with Dialogue(cluster.port) as client:
            client.guesses()
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.uploads("STOR file", b"x" * 100_000)
            client.downloads("RETR file")
            client.epsv()
            client.says("LIST", 150)
            client.expects(425)
            with client.begins("STOR other") as data:
                data.sendall(b"1234")
                client.says("ABOR", 426)
            client.expects(226)

        def look() -> dict[str, Values] | None:
            found = scraped(f"{base}/metrics")
            moved = found["ftpcluster_transfers_total"].get("result", set())
            is_all = moved == {"complete", "failed"} and "425" in codes(found)
            return found if is_all else None

        yield until(look)


def codes(told: dict[str, Values]) -> set[str]:
    return told["ftpcluster_replies_total"].get("code", set())


def scraped(url: str) -> dict[str, Values]:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        text = answer.read().decode()
    found: dict[str, Values] = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found[sample.name]
            for name, value in sample.labels.items():
                labels[name].add(value)
    return found


def selectors(expression: str) -> list[tuple[str, str]]:
    """The metrics of an expression, each with its matchers."""
    return re.findall(r"\b(ftpcluster_\w+|up\b)(?:\{([^}]*)\})?", expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_metrics_labels_and_values_are_those_of_a_server(
    told: dict[str, Values], expression: str
) -> None:
    found = selectors(expression)
    assert found
    grouped = {
        label
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in labels.split(", ")
    }
    for name, matchers in found:
        if name == "up":
            continue  # Prometheus' own
        assert name in told
        assert grouped <= {*told[name], *SCRAPED}, name
        for label, kind, wanted in MATCHER.findall(matchers):
            if label in SCRAPED:
                continue
            choices = wanted.split("|") if kind == "=~" else [wanted]
            for choice in choices:
                assert any(re.fullmatch(choice, value) for value in told[name][label]), choice


def test_the_dashboard_s_panels_and_legends_fit_together() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    text = json.dumps(PANELS)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used == variables
    for panel in PANELS:
        for target in panel["targets"]:
            grouped = re.search(r"\bby \(([^)]*)\)", target["expr"])
            labels = grouped[1].split(", ") if grouped else SCRAPED
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(labels)


def test_the_dashboard_s_panels_do_not_lie_on_each_other() -> None:
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def promtool(*arguments: str, home: Path) -> str:
    done = attempt((need("promtool"), *arguments), home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_files(tmp_path: Path) -> None:
    """The file names the rules, so they are looked at, too."""
    said = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"), home=tmp_path)
    assert f"{len(ALERTS)} rules found" in said


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": known(target["expr"])}
        for number, target in enumerate(each for panel in PANELS for each in panel["targets"])
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file), home=tmp_path)


def known(expression: str) -> str:
    """An expression with the variables that Grafana fills in."""
    return expression.replace("$__rate_interval", "5m").replace("$instance", "a|b")


def test_the_rules_go_by_the_job_that_is_scraped_and_by_the_port_of_the_other_files() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    named = {
        value
        for expression in EXPRESSIONS
        for _, matchers in selectors(expression)
        for label, _, value in MATCHER.findall(matchers)
        if label == "job"
    }
    assert named == {job["job_name"]}
    config = tomllib.loads((DEPLOY / "docker" / "ftpcluster.toml").read_text())
    port = config["metrics"]["listen"].rpartition(":")[2]
    targets = job["static_configs"][0]["targets"]
    assert {target.rpartition(":")[2] for target in targets} == {port}


# What makes each alert fire, a value a minute, and when; what it then says.
FIRING: dict[str, tuple[dict[str, str], str, dict[str, str], str]] = {
    "FTPClusterDown": (
        {'up{job="ftpcluster",instance="a"}': "1 0x9"},
        "4m",
        {"job": "ftpcluster"},
        "a cannot be scraped",
    ),
    "FTPClusterNotReady": (
        {'ftpcluster_ready{instance="a"}': "1 0x9"},
        "4m",
        {},
        "a: not all workers serve",
    ),
    "FTPClusterWorkersFail": (
        {
            'ftpcluster_workers_replaced_total{instance="a",cause="died"}': "0+1x20",
            'ftpcluster_workers_replaced_total{instance="a",cause="hung"}': "0x20",
        },
        "15m",
        {},
        "a: 15 workers died or hung within 15 minutes",
    ),
    "FTPClusterLoopLag": (
        {'ftpcluster_worker_loop_lag_seconds{instance="a",worker="2",state="serving"}': "2x10"},
        "6m",
        {"worker": "2"},
        "a: worker 2 is late by 2s",
    ),
    "FTPClusterWorkersBusy": (
        {
            'ftpcluster_worker_load_ratio{instance="a",worker="1",state="serving"}': "0.95x20",
            'ftpcluster_worker_load_ratio{instance="a",worker="2",state="serving"}': "0.99x20",
            'ftpcluster_worker_load_ratio{instance="a",worker="1",state="draining"}': "0x20",
        },
        "16m",
        {},
        "a: each worker fills a core",
    ),
    "FTPClusterLeasesSlow": (
        {
            'ftpcluster_lease_wait_seconds_sum{instance="a"}': "0+60x20",
            'ftpcluster_lease_wait_seconds_count{instance="a"}': "0+300x20",
        },
        "16m",
        {},
        "a: workers wait 200ms for their leases",
    ),
    "FTPClusterConnectionsNearLimit": (
        {
            'ftpcluster_connections{instance="a"}': "190x10",
            'ftpcluster_connections_limit{instance="a"}': "200x10",
        },
        "6m",
        {},
        "a: 95% of [limits] connections",
    ),
    "FTPClusterSpeedLimitReached": (
        {
            'ftpcluster_transferred_bytes_total{instance="a",direction="upload",tls="no"}': (
                "0+3000x40"
            ),
            'ftpcluster_transferred_bytes_total{instance="a",direction="upload",tls="yes"}': (
                "0+2880x40"
            ),
            'ftpcluster_speed_limit_bytes_per_second{instance="a",direction="upload"}': "100x40",
        },
        "36m",
        {"direction": "upload"},
        "a: uploads have filled [limits] upload for 30 minutes",
    ),
    "FTPClusterGuessing": (
        {'ftpcluster_logins_total{instance="a",result="failed"}': "0+120x30"},
        "25m",
        {},
        "a: 2 failed logins a second",
    ),
    "FTPClusterCertificateExpires": (
        {'ftpcluster_certificate_expiry_timestamp_seconds{instance="a"}': "90000x120"},
        "70m",
        {},
        "a: the certificate expires in 23h 50m 0s",
    ),
    "FTPClusterTransfersFail": (
        {
            f'ftpcluster_transfers_total{{instance="a",direction="{direction}",result="{result}",'
            'tls="no"}': "0+10x40"
            for direction in ("upload", "download")
            for result in ("complete", "failed")
        },
        "35m",
        {},
        "a: 50% of the transfers fail",
    ),
    "FTPClusterNoDataConnections": (
        {
            'ftpcluster_replies_total{instance="a",code="425"}': "0+9x40",
            'ftpcluster_replies_total{instance="a",code="226"}': "0+3x40",
        },
        "35m",
        {},
        "a: 75% of the transfers get no data connection",
    ),
}

# A busy day: some fail, workers are recycled, limits are there.
WELL = {
    'up{job="ftpcluster",instance="a"}': "1x60",
    'ftpcluster_certificate_expiry_timestamp_seconds{instance="a"}': "700000x60",
    'ftpcluster_ready{instance="a"}': "1 1 0 1x60",
    'ftpcluster_workers_replaced_total{instance="a",cause="died"}': "0x10 2x50",
    'ftpcluster_workers_replaced_total{instance="a",cause="replaced"}': "0+1x60",
    'ftpcluster_workers_replaced_total{instance="a",cause="reload"}': "0+2x60",
    'ftpcluster_worker_loop_lag_seconds{instance="a",worker="1",state="serving"}': "0 0 1 0x60",
    'ftpcluster_worker_load_ratio{instance="a",worker="1",state="serving"}': "0.99x60",
    'ftpcluster_worker_load_ratio{instance="a",worker="2",state="serving"}': "0.2x60",
    'ftpcluster_lease_wait_seconds_sum{instance="a"}': "0+60x60",
    'ftpcluster_lease_wait_seconds_count{instance="a"}': "0+1200x60",
    'ftpcluster_connections{instance="a"}': "100x60",
    'ftpcluster_connections_limit{instance="a"}': "200x60",
    'ftpcluster_transferred_bytes_total{instance="a",direction="download",tls="no"}': "0+5000x60",
    'ftpcluster_transferred_bytes_total{instance="a",direction="listing",tls="no"}': "0+9000x60",
    'ftpcluster_speed_limit_bytes_per_second{instance="a",direction="download"}': "100x60",
    'ftpcluster_logins_total{instance="a",result="ok"}': "0+600x60",
    'ftpcluster_logins_total{instance="a",result="failed"}': "0+5x60",
    'ftpcluster_transfers_total{instance="a",direction="download",result="complete",tls="no"}': (
        "0+100x60"
    ),
    'ftpcluster_transfers_total{instance="a",direction="download",result="failed",tls="no"}': (
        "0+10x60"
    ),
    'ftpcluster_replies_total{instance="a",code="425"}': "0+10x60",
    'ftpcluster_replies_total{instance="a",code="226"}': "0+100x60",
}


def tried(series: dict[str, str], when: str, name: str, alerts: list[dict[str, Any]]) -> Any:
    """A test of one rule, as promtool has it."""
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": when, "alertname": name, "exp_alerts": alerts}],
    }


def try_rules(directory: Path, *tests: Any) -> None:
    file = directory / "tests.yml"
    rules = [str(PROMETHEUS / "alerts.yml")]
    file.write_text(
        json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": list(tests)})
    )
    promtool("test", "rules", str(file), home=directory)


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_fires_when_it_should_and_says_what_is_the_matter(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    name = rule["alert"]
    series, when, labels, summary = FIRING[name]
    alert = {
        "exp_labels": {"instance": "a", **labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }
    try_rules(tmp_path, tried(series, when, name, [alert]))


def test_no_alert_fires_on_a_busy_day(tmp_path: Path) -> None:
    assert {rule["alert"] for rule in ALERTS} == FIRING.keys()
    try_rules(
        tmp_path,
        *(tried(WELL, f"{minute}m", name, []) for name in FIRING for minute in range(0, 60, 5)),
    )
