"""The rules for nftables, in a network namespace: nothing of this machine's is touched."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.support.apart import apart
from tests.support.programs import need
from tests.support.shipped import DEPLOY

FILE = DEPLOY / "nftables" / "ftpcluster.nft"
ROOT = DEPLOY.parent


def test_nft_takes_the_rules_also_a_second_time() -> None:
    nft = need("nft")
    apart("sh", "-ec", 'for turn in 1 2; do "$0" -c -f "$1"; "$0" -f "$1"; done', nft, str(FILE))


def test_the_rules_open_the_ports_and_limit_new_connections_of_each_address(tmp_path: Path) -> None:
    need("nft")
    # loopback is all that there is, and it is spared
    spared = '        iif "lo" accept\n'
    text = FILE.read_text()
    assert spared in text
    rules = tmp_path / "rules"
    rules.write_text(text.replace(spared, ""))
    told: dict[str, Any] = json.loads(
        apart(sys.executable, "-m", "tests.support.firewalled", str(rules))
    )
    # 100 at once, and one for each second that it took
    for who in ("one address", "IPv6"):
        assert 100 <= told[who] <= 120, told
    assert told["too many"] >= 60
    assert told["another address"] == 5
    assert told["data ports"] == 151
    assert told["closed port"] > 0


def test_the_range_of_data_ports_is_the_one_that_the_readme_s_server_has() -> None:
    rules = re.search(r"^define data = (\S+)$", FILE.read_text(), re.MULTILINE)
    assert rules is not None
    examples = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    configured = [tomllib.loads(text).get("data", {}).get("ports") for text in examples]
    assert rules[1] in configured
