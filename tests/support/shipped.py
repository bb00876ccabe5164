"""Runs what deploy/ ships on any machine, with free ports and other directories."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.cluster import Cluster
from tests.support.ports import bind_range

DEPLOY = Path(__file__).parents[2] / "deploy"
METRICS = re.compile(r"metrics on http://127\.0\.0\.1:(\d+)/metrics")


class Instruction(NamedTuple):
    """An instruction of a Dockerfile: its name, such as FROM, and the rest of the line."""

    name: str
    value: str

    @property
    def arguments(self) -> list[str]:
        """The arguments in exec form, without a shell. Raises ValueError for another form."""
        found = json.loads(self.value)
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{self.name} {self.value}: not the exec form")
        return found


def dockerfile() -> list[list[Instruction]]:
    """The instructions of each stage of the image, the last one being what runs."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[list[Instruction]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, value = line.split(None, 1)
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, value))
    return stages[1:]


def image() -> dict[str, Instruction]:
    """The instructions of the last stage by name; of several with one name, the last one."""
    return {each.name: each for each in dockerfile()[-1]}


def health_check() -> list[str]:
    """The command of the image's HEALTHCHECK."""
    value = image()["HEALTHCHECK"].value
    return Instruction("HEALTHCHECK", value.partition("CMD ")[2]).arguments


def elsewhere(text: str, directory: Path, first: int) -> str:
    """A configuration that serves ``directory`` on loopback, with data ports from ``first`` on."""
    config: dict[str, Any] = tomllib.loads(text)
    begin, end = map(int, config["data"]["ports"].split("-"))
    changes = {
        '"/srv/ftp"': json.dumps(str(directory)),
        f'"{begin}-{end}"': f'"{first}-{first + end - begin}"',
        f'"{config["metrics"]["listen"]}"': '"127.0.0.1:0"',
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    return text


@contextlib.contextmanager
def running(command: list[str], text: str, directory: Path, *more: str) -> Iterator[Cluster]:
    """Run a container's command with the configuration ``text``. ``directory``/files is served."""
    assert command[:4] == ["ftpcluster", "run", "-c", "/etc/ftpcluster/ftpcluster.toml"]
    (directory / "files").mkdir()
    file = directory / "ftpcluster.toml"
    with contextlib.ExitStack() as stack:
        begin, end = map(int, tomllib.loads(text)["data"]["ports"].split("-"))
        first = bind_range(stack, end - begin + 1)
        file.write_text(elsewhere(text, directory / "files", first))
        flags = (*command[4:], *more)
        cluster = Cluster("-c", str(file), *flags, hosts=("127.0.0.1",))
        yield stack.enter_context(cluster)
    assert "Traceback" not in cluster.log, cluster.log


def seconds(time: str) -> int:
    """``"45s"``: 45."""
    assert time.endswith("s")
    return int(time[:-1])
