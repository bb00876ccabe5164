"""TYPE, STRU, MODE, REST (protocol.md, “Parameters”)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import until
from tests.support.dialogue import Dialogue

BLOCK = 256 * 1024  # a size at which servers read files: CRLF across it is the hard case
TEXT = b"one\ntwo\n\nfour"
WIRE = b"one\r\ntwo\r\n\r\nfour"


@pytest.mark.parametrize("name", ["A", "A N", "I", "L 8", "L 7", "a", "i", "a n", "l 8"])
def test_types_are_ascii_and_image(client: Dialogue, name: str) -> None:
    """“TYPE A, A N, I, L 8, L 7 (as I)”"""
    client.says(f"TYPE {name}", 200)


@pytest.mark.parametrize("name", ["A", "A N"])
def test_ascii_types_convert(client: Dialogue, root: Path, name: str) -> None:
    """“TYPE A, A N”: both are text."""
    (root / "text").write_bytes(TEXT)
    client.says(f"TYPE {name}", 200)
    assert client.downloads("RETR text") == WIRE


@pytest.mark.parametrize("name", ["I", "L 8", "L 7"])
def test_image_types_do_not_convert(client: Dialogue, root: Path, name: str) -> None:
    """“I, L 8, L 7 (as I)”"""
    (root / "text").write_bytes(TEXT)
    client.says("TYPE A", 200)
    client.says(f"TYPE {name}", 200)
    assert client.downloads("RETR text") == TEXT


def test_a_refused_type_changes_nothing(client: Dialogue, root: Path) -> None:
    """“unknown parameter 504”: the type stays what it was."""
    (root / "text").write_bytes(TEXT)
    client.says("TYPE E", 504)
    assert client.downloads("RETR text") == TEXT


@pytest.mark.parametrize("letter", ["F", "f"])
def test_the_structure_is_file(client: Dialogue, letter: str) -> None:
    """“STRU F”"""
    client.says(f"STRU {letter}", 200)


@pytest.mark.parametrize("letter", ["R", "P", "X", "FF"])
def test_other_structures_are_refused(client: Dialogue, letter: str) -> None:
    """“STRU F (others 504)”"""
    client.says(f"STRU {letter}", 504)


@pytest.mark.parametrize("letter", ["S", "s"])
def test_the_mode_is_stream(client: Dialogue, letter: str) -> None:
    """“MODE S”"""
    client.says(f"MODE {letter}", 200)


@pytest.mark.parametrize("letter", ["B", "C", "Z", "SS"])
def test_other_modes_are_refused(client: Dialogue, letter: str) -> None:
    """“MODE S (others 504)”"""
    client.says(f"MODE {letter}", 504)


# ---------------------------------------------------------------------- TYPE A


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (TEXT, WIRE),
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"mixed\r\nends\n", b"mixed\r\nends\r\n"),
        (b"a\rb", b"a\rb"),
        (b"x" * (BLOCK - 1) + b"\r\nend\n", b"x" * (BLOCK - 1) + b"\r\nend\r\n"),
        (b"x\n" * BLOCK, b"x\r\n" * BLOCK),
    ],
    ids=["lines", "empty", "newline", "crlf", "mixed", "cr", "crlf split over blocks", "large"],
)
def test_text_is_sent_with_crlf(client: Dialogue, root: Path, stored: bytes, sent: bytes) -> None:
    """“TYPE A converts both ways, right when CRLF is split over reads, existing CRLF not
    doubled.”"""
    (root / "text").write_bytes(stored)
    client.says("TYPE A", 200)
    assert client.downloads("RETR text") == sent


@pytest.mark.parametrize(
    ("sent", "stored"),
    [(WIRE, TEXT), (b"", b""), (b"a\nb", b"a\nb"), (b"a\rb\r", b"a\rb\r"), (b"\r\r\n", b"\r\n")],
    ids=["lines", "empty", "newlines", "cr", "cr before crlf"],
)
@pytest.mark.parametrize("verb", ["STOR", "APPE"])
def test_text_is_stored_with_newlines(
    client: Dialogue, root: Path, verb: str, sent: bytes, stored: bytes
) -> None:
    """“TYPE A converts both ways”"""
    client.says("TYPE A", 200)
    client.uploads(f"{verb} text", sent)
    assert (root / "text").read_bytes() == stored


def test_large_texts_are_stored_with_newlines(client: Dialogue, root: Path) -> None:
    """“TYPE A converts both ways, right when CRLF is split over reads”: whatever the reads are."""
    client.says("TYPE A", 200)
    client.uploads("STOR text", b"line\r\n" * 300_000)
    assert (root / "text").read_bytes() == b"line\n" * 300_000


def test_a_line_end_split_over_segments_is_one_line_end(client: Dialogue, root: Path) -> None:
    """“right when CRLF is split over reads”"""
    client.says("TYPE A", 200)
    text = root / "text"
    with client.begins("STOR text") as data:
        data.sendall(b"a\r")
        until(lambda: text.read_bytes() == b"a")
        data.sendall(b"\nb\r")
        until(lambda: text.read_bytes() == b"a\nb")
        data.sendall(b"c")
    client.expects(226)
    assert text.read_bytes() == b"a\nb\rc"


# ---------------------------------------------------------------------- REST


@pytest.mark.parametrize(
    "offset",
    ["-1", "+1", "1.5", "1e3", "0x10", "one", "1 2", "²", "١٢", "１", str(2**63), "9" * 30],
)
def test_a_restart_offset_is_a_decimal_number(client: Dialogue, root: Path, offset: str) -> None:
    """“REST takes decimal digits ≤ 2⁶³−1, else 501 (text, sign, fraction, other scripts'
    digits)”"""
    (root / "file").write_bytes(b"0123456789")
    client.says(f"REST {offset}", 501)
    assert client.downloads("RETR file") == b"0123456789"


@pytest.mark.parametrize("offset", ["0", "1", "007", str(2**63 - 1)])
def test_a_restart_offset_is_accepted(client: Dialogue, offset: str) -> None:
    """“REST takes decimal digits ≤ 2⁶³−1”"""
    client.says(f"REST {offset}", 350)


def test_text_has_no_restart_offset(client: Dialogue) -> None:
    """“501 in TYPE A”"""
    client.says("TYPE A", 200)
    client.says("REST 1", 501)


@pytest.mark.parametrize("offset", [0, 1, 5, 10])
def test_a_download_begins_at_the_offset(client: Dialogue, root: Path, offset: int) -> None:
    """“RETR and STOR past the end 554”: up to the end they begin there."""
    (root / "file").write_bytes(b"0123456789")
    client.says(f"REST {offset}", 350)
    assert client.downloads("RETR file") == b"0123456789"[offset:]


@pytest.mark.parametrize("verb", ["STOR", "APPE"])
def test_an_upload_begins_at_the_offset(client: Dialogue, root: Path, verb: str) -> None:
    """“REST then APPE writes at the offset as STOR does”"""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 4", 350)
    client.uploads(f"{verb} file", b"abcdefgh")
    assert (root / "file").read_bytes() == b"0123abcdefgh"


def test_a_large_upload_begins_at_the_offset(client: Dialogue, root: Path) -> None:
    """“REST then APPE writes at the offset as STOR does”, however the bytes are copied."""
    (root / "file").write_bytes(b"x" * 1000)
    client.says("REST 1000", 350)
    client.uploads("STOR file", b"y" * 2_000_000)
    assert (root / "file").read_bytes() == b"x" * 1000 + b"y" * 2_000_000


@pytest.mark.parametrize("between", ["TYPE I", "PASV", "EPSV", "NOOP", "PWD", "SIZE file"])
def test_the_offset_survives_until_the_next_transfer(
    client: Dialogue, root: Path, between: str
) -> None:
    """“it survives TYPE, PASV, EPSV, … until the next transfer”"""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 4", 350)
    client.says(between, 200, 213, 227, 229, 257)
    assert client.downloads("RETR file") == b"456789"


def test_the_offset_counts_for_one_transfer(client: Dialogue, root: Path) -> None:
    """“until the next transfer”"""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 4", 350)
    client.downloads("RETR file")
    assert client.downloads("RETR file") == b"0123456789"


def test_a_listing_is_a_transfer_too(client: Dialogue, root: Path) -> None:
    """“until the next transfer”: a listing's, which itself is not cut."""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 4", 350)
    assert client.downloads("NLST") == b"file\r\n"
    assert client.downloads("RETR file") == b"0123456789"


def test_the_last_offset_counts(client: Dialogue, root: Path) -> None:
    """“it survives … until the next transfer”: another REST takes its place."""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 4", 350)
    client.says("REST 0", 350)
    assert client.downloads("RETR file") == b"0123456789"


@pytest.mark.parametrize("verb", ["RETR", "STOR", "APPE"])
def test_past_the_end_nothing_begins(client: Dialogue, root: Path, verb: str) -> None:
    """“RETR and STOR past the end 554 before 150”"""
    (root / "file").write_bytes(b"0123456789")
    client.says("REST 11", 350)
    with client.passive():
        client.says(f"{verb} file", 554)
    assert (root / "file").read_bytes() == b"0123456789"
    client.says("NOOP", 200)


def test_the_largest_offset_is_past_the_end(client: Dialogue, root: Path) -> None:
    """“REST takes decimal digits ≤ 2⁶³−1 … past the end 554”"""
    (root / "file").write_bytes(b"0123456789")
    client.says(f"REST {2**63 - 1}", 350)
    with client.passive():
        client.says("RETR file", 554)


def test_what_is_missing_cannot_be_resumed(client: Dialogue, root: Path) -> None:
    """“STOR to a missing file with REST 550”"""
    client.says("REST 4", 350)
    with client.passive():
        client.says("STOR file", 550)
    assert not list(root.iterdir())
