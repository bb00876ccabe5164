"""The manifest for Kubernetes: its parts fit together, and its configuration serves."""

from __future__ import annotations

import re
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import DEADLINE
from tests.support.dialogue import Dialogue
from tests.support.shipped import DEPLOY, METRICS, image, running, seconds

FILE = DEPLOY / "kubernetes" / "ftpcluster.yaml"
OBJECTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all(FILE.read_text())
}
POD = OBJECTS["Deployment"]["spec"]["template"]
CONTAINER: dict[str, Any] = POD["spec"]["containers"][0]
TEXT: str = OBJECTS["ConfigMap"]["data"]["ftpcluster.toml"]
CONFIG = tomllib.loads(TEXT)
PORTS = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def test_the_configuration_serves_with_probes_at_the_paths_that_are_named(tmp_path: Path) -> None:
    command = image()["ENTRYPOINT"].arguments + CONTAINER["args"]
    with running(command, TEXT, tmp_path) as cluster:
        (tmp_path / "files" / "file").write_bytes(b"content")
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "me@example.com")
            assert client.downloads("RETR file") == b"content"
            assert client.pasv()[0] == CONFIG["data"]["masquerade"]
        port = cluster.wait_for(METRICS)[1]
        paths = {name: CONTAINER[name]["httpGet"]["path"] for name in PROBES}
        for path in paths.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE) as told:
                assert told.status == 200
    # a worker that hangs must not have the whole pod killed
    assert paths["livenessProbe"] == "/healthz"
    assert paths["readinessProbe"] == "/readyz"
    assert {CONTAINER[name]["httpGet"]["port"] for name in PROBES} == {"metrics"}


def test_ports_are_the_same_in_configuration_pod_and_service() -> None:
    assert PORTS["ftp"] == CONFIG["listen"][0]["port"]
    metrics = int(CONFIG["metrics"]["listen"].rpartition(":")[2])
    assert PORTS["metrics"] == metrics
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(metrics)
    first, last = map(int, CONFIG["data"]["ports"].split("-"))
    data = {f"data-{port}": (port, port) for port in range(first, last + 1)}
    told = OBJECTS["Service"]["spec"]["ports"]
    assert {each["name"]: (each["port"], each["targetPort"]) for each in told} == {
        "ftp": (21, "ftp"),
        **data,
    }


def test_a_client_s_data_connections_come_to_the_pod_of_its_session_from_its_address() -> None:
    deployment, service = OBJECTS["Deployment"]["spec"], OBJECTS["Service"]["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"]["type"] == "Recreate"
    assert service["externalTrafficPolicy"] == "Local"
    assert service["publishNotReadyAddresses"] is True
    labels = POD["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == service["selector"] == labels


def test_kubernetes_waits_longer_than_transfers_may_take_at_the_end() -> None:
    grace = seconds(CONFIG["timeouts"]["shutdown"])
    assert POD["spec"]["terminationGracePeriodSeconds"] > grace


def test_the_pod_meets_the_restricted_standard() -> None:
    """Kubernetes' own: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"] is True
    kinds = {kind for volume in POD["spec"]["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    user, group = map(int, image()["USER"].value.split(":"))
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (user, group, group)


def test_every_volume_is_mounted_where_the_server_looks_for_it() -> None:
    volumes = {each["name"]: each for each in POD["spec"]["volumes"]}
    mounts = {each["name"]: each for each in CONTAINER["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert mounts["config"]["mountPath"] == str(Path(CONTAINER["args"][-1]).parent)
    assert volumes["config"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    claim = OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["files"]["persistentVolumeClaim"]["claimName"] == claim
    assert mounts["files"]["mountPath"] == CONFIG["anonymous"]["root"]
    (runtime,) = (each for each in CONTAINER["env"] if each["name"] == "RUNTIME_DIRECTORY")
    assert mounts["runtime"]["mountPath"] == runtime["value"]
    writable = {name for name, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {"runtime", "files"}


@pytest.mark.parametrize("key", ["certificate", "key"])
def test_the_certificate_that_is_proposed_is_where_the_secret_is_mounted(key: str) -> None:
    mount = next(each for each in CONTAINER["volumeMounts"] if each["name"] == "tls")
    path = re.search(rf'^# {key} = "(.+)"$', TEXT, re.MULTILINE)
    assert path is not None
    assert Path(path[1]).parent == Path(mount["mountPath"])
    assert Path(path[1]).name in {"tls.crt", "tls.key"}
