"""Sizes and times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.config.units import (
    parse_duration,
    parse_frequency,
    parse_size,
    show_frequency,
    show_size,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("1", 1),
        ("100B", 100),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("10KiB", 10 * 2**10),
        ("10MB", 10**7),
        ("10 MB", 10**7),
        (" 10MB ", 10**7),
        ("10M", 10**7),
        ("10MiB", 10 * 2**20),
        ("10Mi", 10 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.5GiB", 2**29),
        ("1.25kB", 1250),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 * 2**40),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "0MB", "0.0", "0.1", "-1", "-10MB", "+1", "fast", "MB", "B", "i", "10iB",
        "10XB", "10MBs", "10MB/s", "10 M B", "1,5GB", "1.GB", ".5GB", "1.5.5", "1e6", "0x10",
        "1_000", "10\nMB", "10mB", "١٠", "10MB\x00", "inf", "nan", "9" * 400,
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is all that it says
        parse_size(text)


@patient
@given(st.integers(1, 10**9), st.sampled_from([("k", 1), ("M", 2), ("G", 3), ("T", 4)]))
def test_units_are_powers_of_a_thousand_and_with_an_i_of_1024(
    number: int, unit: tuple[str, int]
) -> None:
    letter, power = unit
    assert parse_size(f"{number}{letter}B") == number * 1000**power
    assert parse_size(f"{number}{letter}iB") == number * 1024**power


@patient
@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) >= 1
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("2h", 7200), ("0s", 0), (" 1 h ", 3600), ("90 s", 90)],
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-1s", "1.5h", "1d", "1ms", "1h30m", "5M", "1 0s", "٣s", "1s\n1"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is all that it says
        parse_duration(text)


@patient
@given(st.integers(1, 10**15))
def test_a_size_that_is_shown_reads_as_itself(size: int) -> None:
    assert parse_size(show_size(size)) == size


def test_a_size_is_shown_in_its_largest_unit() -> None:
    assert [show_size(size) for size in (10**7, 10 * 2**20, 1500, 1537, 2048, 3 * 10**12)] == [
        "10MB", "10MiB", "1500B", "1537B", "2KiB", "3TB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number", "seconds", "shown"),
    [
        ("60/m", 60, 60, "60/m"),
        ("5/s", 5, 1, "5/s"),
        ("100 / h", 100, 3600, "100/h"),
        ("30/1m", 30, 60, "30/m"),
        ("30/10m", 30, 600, "30/10m"),
        (" 30/90 s ", 30, 90, "30/90s"),
        ("30/11s", 30, 11, "30/11s"),
    ],
)
def test_a_number_in_a_time_is_read_and_shown(
    text: str, number: int, seconds: int, shown: str
) -> None:
    assert parse_frequency(text) == (number, seconds)
    assert show_frequency(number, seconds) == shown


@pytest.mark.parametrize("text", ["", "60", "/m", "60/", "60/x", "6.5/m", "60/m/s", "60/-1m"])
def test_what_is_no_number_in_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^" + text.replace("/", "/")):
        parse_frequency(text)
