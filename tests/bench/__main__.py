"""The command line: which workloads, on which servers, how often, and where the results go."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import resource
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.bench.ftp import FAILURES, Client
from tests.bench.makes import PEERS, Make, Unusable, given, ours, peer
from tests.bench.measure import Conditions, Failed, Server, measure
from tests.bench.processes import Lost, end_when_asked
from tests.bench.show import Results, as_json, heading, notes, table
from tests.bench.workloads import Site, Workload, workloads

_WRONG_USAGE = 2
_INTERRUPTED = 130
_WIDE = 120
_MEMORY = Path("/dev/shm")  # where there is room, disks are not what is measured


def _numbers(_: click.Context, __: click.Parameter, text: str | None) -> list[int | None]:
    if text is None:
        return [None]
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{text!r} is no number of processes, as 2 or 1,2,4")
    return list(dict.fromkeys(numbers))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--workers",
    callback=_numbers,
    metavar="N,…",
    help="Workers of ours; a column for each number [default: as `ftpcluster run`]",
)
@click.option(
    "--ours", "flags", default="", metavar="FLAGS", help="More flags of ours, as one text"
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME='COMMAND'",
    help="One more server; its command may say {port} {root} {user} {password} {certificate}",
)
@click.option(
    "--peers",
    metavar="NAME,…",
    help=f"Which others, of {', '.join(PEERS)}, or none [default: all that are installed]",
)
@click.option("--only", metavar="NAME,…", help="Which workloads; patterns as tls_* [default: all]")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How often each server gets each workload",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05),
    default=3.0,
    show_default=True,
    metavar="S",
    help="For how long",
)
@click.option(
    "--hold",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Idle sessions of the workload of that name",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="PART",
    help="What part of their size large files and directories have, to try something out",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where files are served from, to measure a disk [default: memory]",
)
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all figures there, also those of each round",
)
@click.option("--list", "lists", is_flag=True, help="Print the workloads and servers, and end")
def bench(**options: Any) -> int:
    """Measure FTP servers beside each other on this machine, and print a table.

    Rates, the server's own CPU for each operation or GB, and the 99th percentile of how long an
    operation took: medians of all rounds.
    """
    if options["lists"]:
        _print_lists(options["hold"])
        return 0
    if (file := options["file"]) is not None and not file.absolute().parent.is_dir():
        raise click.UsageError(f"--json {file}: there is no such directory")
    with _place(options["directory"]) as directory:
        site = Site(directory / "root", options["scale"])
        chosen = _chosen(workloads(site, options["hold"]), options["only"])
        makes = _named(options)
        _raise_limit(chosen)
        if (reason := site.lacks_room()) is not None:
            raise click.UsageError(f"{reason}; --directory names another one")
        site.make()
        authority, certificate = _certificates(directory)
        conditions = Conditions(site, directory, authority, certificate, options["seconds"])
        results = _usable(makes, chosen, conditions)
        status = _run(results, conditions, options["rounds"])
    _print(results, options["rounds"], options["seconds"])
    if file is not None:
        said = as_json(results, sys.argv, {**options, "file": str(file)})
        file.write_text(json.dumps(said, indent=1, default=str) + "\n")
    return status


# ---------------------------------------------------------------------- what is asked for


def _chosen(known: dict[str, Workload], only: str | None) -> dict[str, Workload]:
    if only is None:
        return known
    wanted: set[str] = set()
    for pattern in only.split(","):
        found = fnmatch.filter(known, pattern)
        if not found:
            raise click.UsageError(f"--only {pattern}: there are {', '.join(known)}")
        wanted.update(found)
    return {name: workload for name, workload in known.items() if name in wanted}


def _named(options: dict[str, Any]) -> list[Make]:
    """Ours first, then what the command line names, then what is found."""
    numbers = options["workers"]
    try:
        flags = shlex.split(options["flags"])
        makes = [
            ours("ftpcluster" if len(numbers) == 1 else f"ftpcluster {number}", number, flags)
            for number in numbers
        ]
        makes += [given(text) for text in options["servers"]]
    except (Unusable, ValueError) as error:
        raise click.UsageError(str(error)) from None
    peers = PEERS if options["peers"] is None else options["peers"].split(",")
    if peers != ["none"]:
        for name in peers:
            if name not in PEERS:
                raise click.UsageError(f"--peers {name}: there are {', '.join(PEERS)}, or none")
            makes.append(peer(name))
    names = [make.name for make in makes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise click.UsageError(f"{twice.pop()}: two servers have this name")
    return makes


def _usable(makes: Sequence[Make], chosen: dict[str, Workload], conditions: Conditions) -> Results:
    """Those that start and let a client in. A peer that was only found need not."""
    results = Results([], chosen, {})
    found = []
    for make in makes:
        _tell(f"trying {make.name}")
        try:
            with Server(make, conditions, tls=False) as server:
                client = Client(server.target, 0)
                client.logs_in()
                client.quits()
        except (Unusable, Failed, Lost, *FAILURES) as error:
            if not make.is_found:
                raise click.UsageError(f"{make.name}: {error}") from None
            results.missing[make.name] = str(error)
        else:
            found.append(make)
    results.makes = found
    return results


def _raise_limit(chosen: dict[str, Workload]) -> None:
    """Have as many descriptors as may be had, and enough for all sessions in one process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = max(workload.held for workload in chosen.values())
    if held + 100 > most:
        raise click.UsageError(
            f"--hold {held}: a process may have {most} files open; see `ulimit -n`"
        )


@contextlib.contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    """A directory that is gone afterwards. Servers that have given up root have to reach it."""
    if directory is None and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 << 30:
        directory = _MEMORY
    with tempfile.TemporaryDirectory(prefix="ftpbench-", dir=directory) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _certificates(directory: Path) -> tuple[Path, Path]:
    """An authority's certificate, and one that it has issued, with its key."""
    try:
        import trustme
    except ModuleNotFoundError:
        raise click.UsageError("trustme is not installed: pip install -e '.[test]'") from None
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    certificate = directory / "server.pem"
    certificate.touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return directory / "authority.pem", certificate


# ---------------------------------------------------------------------- what is done and said


def _run(results: Results, conditions: Conditions, rounds: int) -> int:
    """Servers take turns, so that what else the machine does meets all of them."""
    try:
        for number in range(rounds):
            for name, workload in results.workloads.items():
                for make in results.makes:
                    _tell(f"round {number + 1} of {rounds}: {name}: {make.name}")
                    results.add(name, make, measure(make, workload, conditions))
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        _tell("")
    return 0


def _tell(what: str) -> None:
    """What is being done, on a line that the next one replaces; in a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{what}", err=True, nl=False)


def _print(results: Results, rounds: int, seconds: float) -> None:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    if any(results.rounds.values()):
        console.print(heading(rounds, seconds), soft_wrap=True)
        console.print(table(results))
        console.print()
    for note in notes(results):
        console.print(note, markup=False, soft_wrap=True)


def _print_lists(held: int) -> None:
    for name, workload in workloads(Site(Path()), held).items():
        count = f", {workload.clients} clients" if workload.clients > 1 else ""
        click.echo(f"{name:16}{workload.about}{count}")
    click.echo()
    for name in PEERS:
        click.echo(f"{name:16}{peer(name).version or 'not installed'}")


def main() -> None:
    """Run it; wrong input ends in one line on stderr and exit code 2, never a traceback."""
    end_when_asked()
    try:
        status = bench.main(prog_name="python -m tests.bench", standalone_mode=False)
    except click.ClickException as error:
        _tell("")
        line = " ".join(error.format_message().split())
        click.echo(f"bench: error: {line}", err=True)
        status = _WRONG_USAGE
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    sys.exit(status)


if __name__ == "__main__":
    main()
