"""What a client may say, as strategies: all verbs there are, arguments from good to nasty."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from ftpcluster.session.commands.table import COMMANDS, NOT_IMPLEMENTED

Line = bytes

PATHS = (
    b"file", b"directory", b"directory/file", b"missing", b"missing/file", b"link", b"way out",
    b"/", b".", b"..", b"//", b"/directory//../file", b"../../../../etc/passwd", b"/proc/self/root",
    b"way out/etc", b"x" * 256, b"d/" * 1500, b"caf\xc3\xa9", b"cafe\xcc\x81", b"\xff\xfe",
    b'"quoted"', b"a\rb",
    b"a\0b", b"a\x1b[2Jb", b"a\x0bb\x85", "\u2028".encode(), b"*", b"[a", b"[!a-", b"?*/*", b"\\*",
    b"{a,b}", b"~", b"~root", b"-", b"-la", b"-R /", b" leading", b"trailing ", b"%s%n", b"fifo",
)  # fmt: skip
NUMBERS = (
    b"0", b"1", b"-1", b"+1", b"8", b"007", b"9" * 30, b"1" + b"0" * 18, "²".encode(), "٣".encode(),
    b"0x10", b"1e3", b"1.5", b"1_000", b"", b"NaN",
)  # fmt: skip
WORDS = (
    b"A", b"I", b"L 8", b"L 7", b"E", b"A N", b"A T", b"S", b"B", b"C", b"F", b"R", b"P", b"X",
    b"TLS", b"tls-c", b"SSL", b"TLS-P", b"GSSAPI", b"ALL", b"1", b"2", b"3", b"UTF8 ON",
    b"UTF8 OFF", b"MLST type;size;", b"MLST ;;;", b"HASH MD5", b"HASH none", b"HELP", b"NOOP",
    b"CHMOD 644 file", b"CHMOD 9999 file", b"CHMOD 0", b"UTIME file 20200101000000",
    b"UTIME 20200101000000 file", b"UTIME 20201301000000 file", b"IDLE 1", b"EXEC ls",
    b"20200101000000 file", b"99991231235960 file", b"0 file", b"20200101000000",
    b"\"file\" 0 1", b"file 1 0", b"file 5", b"\"file", b"example.com", b"[::1]", b"[", b"user",
    b"12345", b"nobody",
)  # fmt: skip
ADDRESSES = (
    b"127,0,0,1,200,10", b"127,0,0,1,0,21", b"10,0,0,1,200,10", b"256,0,0,1,1,1", b"1,2,3",
    b"127,0,0,1,200,10,1", "١,0,0,1,1,1".encode(), b"|1|127.0.0.1|50000|", b"|1|127.0.0.1|22|",
    b"|2|::1|50000|", b"|3|x|1|", b"|1|10.0.0.1|50000|", b"||||", b"|", b"|1|127.0.0.1|65536|",
    b"|1|127.0.0.1|-1|", b"!1!127.0.0.1!50000!", b"|1|" + b"1" * 500 + b"|1|",
)  # fmt: skip

_LINE_BYTES = st.binary(max_size=60).map(lambda data: data.replace(b"\n", b""))
_TEXT = st.text(max_size=40).map(
    lambda text: text.encode("utf-8", "surrogatepass").replace(b"\n", b"")
)
argument = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from(ADDRESSES),
    _LINE_BYTES,
    _TEXT,
    st.integers(512, 9000).map(lambda length: b"y" * length),
)

_KNOWN = sorted({*COMMANDS, *NOT_IMPLEMENTED} - {b"QUIT", b"REIN", b"USER"})
_known = st.sampled_from(_KNOWN)
_odd = _LINE_BYTES.filter(lambda data: bool(data.strip()))
_case = st.sampled_from([bytes.upper, bytes.upper, bytes.lower, bytes.title])
_prefix = st.sampled_from([b""] * 12 + [b"\xff\xf4\xff\xf2", b"\xff\xf4", b" ", b"\xff\xf2"])
_bare = st.sampled_from(
    [b"QUIT", b"EPSV", b"PASV", b"EPSV", b"REIN", b"LIST", b"ABOR", b"STAT", b"CDUP"]
)
_transfer = st.builds(
    lambda verb, path: verb + b" " + path,
    st.sampled_from([b"RETR", b"STOR", b"APPE", b"STOU", b"LIST", b"NLST", b"MLSD"]),
    st.sampled_from([b"file", b"directory/file", b"new", b"directory", b"link", b""]),
)


def _joined(prefix: bytes, case: object, verb: bytes, gap: bytes, rest: bytes | None) -> Line:
    assert callable(case)
    cased: bytes = case(verb)
    return prefix + cased if rest is None else prefix + cased + gap + rest


_command = st.builds(
    _joined, _prefix, _case, _known, st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"]),
    st.none() | argument | argument | argument,
)  # fmt: skip
_rubbish = st.builds(_joined, _prefix, _case, _odd, st.just(b" "), st.none() | argument)

line = st.one_of(_command, _command, _command, _command, _command, _bare, _transfer, _rubbish)
"""A line without its end."""

_passive = st.sampled_from([b"EPSV", b"PASV", b"EPSV 1"])


def _saying(verb: bytes) -> st.SearchStrategy[Line]:
    return argument.map(lambda rest: verb + b" " + rest)


_login = (st.just(b"USER user"), st.sampled_from([b"PASS 12345"] * 4 + [b"PASS wrong"]))
_one_after_the_other = st.one_of(
    st.tuples(_passive, _transfer),
    st.tuples(_passive, _transfer),
    st.tuples(st.sampled_from([b"TYPE I", b"TYPE A"]), _passive, _saying(b"REST"), _transfer),
    st.tuples(_saying(b"RNFR"), _saying(b"RNTO")),
    st.tuples(st.just(b"RNFR file"), _saying(b"RNTO")),
    st.tuples(_saying(b"RANG"), st.just(b"HASH file")),
    st.tuples(_saying(b"USER"), _saying(b"PASS"), *_login),
    st.tuples(*_login),
    st.tuples(st.sampled_from([b"AUTH TLS", b"AUTH SSL", b"CCC", b"REIN"]), *_login),
    st.tuples(st.just(b"PBSZ 0"), st.sampled_from([b"PROT P", b"PROT C"]), _passive, _transfer),
)
_pieces = st.one_of(
    line.map(lambda each: (each,)), line.map(lambda each: (each,)), _one_after_the_other
)
lines = st.lists(_pieces, min_size=8, max_size=30).map(
    lambda pieces: [each for piece in pieces for each in piece]
)
"""What one session says: lines by themselves, and some that only make sense together."""


_VERBS = sorted({*COMMANDS, *NOT_IMPLEMENTED} - {b"USER", b"REIN", b"PROT"})
"""Without those after which little else would be allowed, or that would need TLS."""
_ALL = tuple(each for each in (*PATHS, *WORDS, *NUMBERS, *ADDRESSES) if each.count(b"/") < 100)
"""MKD with a thousand of them makes a directory too deep for Python 3.11 to remove."""


def random_line(chance: random.Random) -> Line:
    """One that is made fast, for volume. Of guesses, which are answered late, there is none."""
    verb = b"EPSV" if chance.random() < 0.1 else chance.choice(_VERBS)
    if verb == b"QUIT" and chance.random() < 0.9:
        verb = b"NOOP"
    if chance.random() < 0.05:
        verb = chance.randbytes(chance.randrange(1, 9)).replace(b"\n", b"")
    if chance.random() < 0.2:
        verb = verb.lower()
    kind = chance.random()
    if kind < 0.25:
        return verb
    if kind < 0.4:
        return verb + b" " + chance.randbytes(chance.randrange(60)).replace(b"\n", b"")
    if kind < 0.42:
        return verb + b" " + b"y" * chance.randrange(3000, 9000)
    return verb + b" " + chance.choice(_ALL)
