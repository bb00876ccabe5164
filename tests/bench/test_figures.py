"""What is computed of what was measured."""

from __future__ import annotations

import pytest

from tests.bench.figures import FIGURES, Outcome, Round, medians, of_clients, percentile, ratio


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert percentile(hundred, 0.50) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile([7.0], 0.99) == 7


def test_rates_are_the_sum_of_each_clients_own() -> None:
    quick = Outcome(seconds=1.0, moved=3_000_000, latencies=[0.1] * 10)
    slow = Outcome(seconds=2.0, moved=2_000_000, latencies=[0.5] * 4)
    found = of_clients([quick, slow], cpu=0.007)
    assert not found.errors
    assert found.values == pytest.approx(
        {
            "operations": 14,
            "bytes": 5_000_000,
            "operations_per_second": 10 / 1 + 4 / 2,
            "megabytes_per_second": 3 / 1 + 2 / 2,
            "cpu_us_per_operation": 500,
            "cpu_ms": 7,
            "cpu_ms_per_gb": 1400,
            "p50_ms": 100,
            "p99_ms": 500,
        }
    )


def test_clients_that_gave_up_say_why_and_the_others_still_count() -> None:
    found = of_clients([Outcome(error="NOOP: 502"), Outcome(1.0, 0, [0.1] * 5)], cpu=0.1)
    assert found.errors == ["NOOP: 502"]
    assert found.values["operations"] == 5
    assert of_clients([Outcome(error="NOOP: 502")], cpu=0.1).values == {}


def test_a_median_is_that_of_the_rounds_that_have_the_figure() -> None:
    rounds = [Round({"p99_ms": value}) for value in (1.0, 9.0, 2.0)] + [Round({}, ["died"])]
    assert medians(rounds) == {"p99_ms": 2.0}


def test_a_ratio_is_to_the_best_of_the_others() -> None:
    others = [{"cpu_ms": 4.0, "operations_per_second": 50.0}, {"cpu_ms": 2.0}]
    assert ratio("cpu_ms", {"cpu_ms": 3.0}, others) == 1.5
    assert ratio("operations_per_second", {"operations_per_second": 100.0}, others) == 2.0
    assert ratio("p99_ms", {"p99_ms": 1.0}, others) is None
    assert ratio("cpu_ms", {}, others) is None
    assert ratio("cpu_ms", {"cpu_ms": 3.0}, [{"cpu_ms": 0.0}]) is None


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.042, "0.04 µs"), (9.996, "10.0 µs"), (99.96, "100 µs"), (21569.4, "21,569 µs")],
)
def test_a_figure_is_written_in_three_digits_or_more(value: float, written: str) -> None:
    assert FIGURES["cpu_us_per_operation"].write(value) == written
