"""Try faults by hand:

    python -m tests.faults [--atomic] [--supervisor] [--sample N [--nth N]] SCRIPT [TEXT]

tries the faults of a script whose description contains TEXT, and prints those that the server does
not survive as it must.
"""

from __future__ import annotations

import argparse
import ssl
import tempfile
import time
from pathlib import Path

import trustme

from tests.faults.bench import Bench, Outcome, sample


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("script")
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--atomic", action="store_true")
    parser.add_argument("--supervisor", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--sample", type=int, help="how many errors of each call; all by default")
    parser.add_argument(
        "--nth", type=int, default=1 << 30, help="only the first so many calls of each name"
    )
    args = parser.parse_args()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    authority.configure_trust(context)
    process = "supervisor" if args.supervisor else "worker"
    with tempfile.TemporaryDirectory() as directory:
        certificate = Path(directory, "server.pem")
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
        with Bench(
            Path(directory), certificate, context, is_atomic=args.atomic, process=process
        ) as bench:
            faults = [each for each in bench.faults(args.script) if args.text in str(each)]
            if args.sample:
                faults = sample(faults, args.sample, args.nth)
            print(len(faults), "faults")
            if args.list:
                print(*faults, sep="\n")
                return
            outcome, began = Outcome(is_told=True), time.monotonic()
            bench.try_faults(args.script, faults, outcome)
            print(
                f"{outcome.injected} injected, {outcome.missed} not reached, "
                f"{len(outcome.wrong)} wrong, {time.monotonic() - began:.1f} s"
            )


if __name__ == "__main__":
    main()
