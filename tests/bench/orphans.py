"""Prints the CPU below a keeper whose server has left a busy grandchild to nobody."""

import os
import sys
import time
from pathlib import Path

from tests.bench.keeper import keep
from tests.bench.processes import cpu_below, start

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
# the shell's background job has ended, and its parent long before that
SCRIPT = f"(\"{sys.executable}\" -c '{BUSY}' & ) ; exec sleep 1000"

with start(keep, ["sh", "-c", SCRIPT], dict(os.environ), Path(sys.argv[1])) as keeper:
    keeper.hears(20)
    deadline = time.monotonic() + 20
    while cpu_below(keeper.pid) < 0.25 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    while len(children.read_text().split()) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(cpu_below(keeper.pid))
