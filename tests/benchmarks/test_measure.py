"""The stopwatch."""

import time

import pytest

measure = pytest.importorskip("benchmarks.measure", reason="the benchmarks are only in the checkout")


def test_spread() -> None:
    spread = measure.Spread.of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (spread.median, spread.lower, spread.upper) == (3.0, 2.0, 4.0)
    assert (spread.least, spread.most, spread.count) == (1.0, 5.0, 5)


def test_contenders_take_turns_after_a_warm_up_of_all_and_who_is_first_changes() -> None:
    calls: list[str] = []
    jobs = {name: measure.Job(lambda name=name: calls.append(name)) for name in "abc"}
    contest = measure.compete(jobs, measure.TINY)
    assert "".join(calls) == "abc" + "abc" + "abc" + "bca"
    assert {name: len(times) for name, times in contest.times.items()} == {"a": 2, "b": 2, "c": 2}


def test_one_call_before_a_block_of_several_is_not_counted() -> None:
    calls: list[str] = []
    jobs = {name: measure.Job(lambda name=name: calls.append(name)) for name in "ab"}
    measure.take_turns(jobs, 1, {"a": 3, "b": 1})
    assert "".join(calls) == "a" + "aaa" + "b"


def test_times_are_for_each_unit_and_ratios_within_rounds() -> None:
    slow, fast = measure.Job(lambda: time.sleep(0.04), units=2), measure.Job(lambda: time.sleep(0.002))
    contest = measure.compete({"slow": slow, "fast": fast}, measure.TINY)
    record = contest.to_dict("fast", "absent")
    assert record["rounds"] == 2
    assert record["times"]["slow"]["median"] >= 20
    assert 2 <= record["times"]["fast"]["median"] < record["times"]["slow"]["median"]
    assert record["ratios"].keys() == {"fast"}
    assert record["ratios"]["fast"]["slow"]["median"] > 1


def test_a_cheap_contender_has_more_calls_and_the_budget_ends_the_rounds() -> None:
    jobs = {"cheap": measure.Job(lambda: time.sleep(0.001)), "dear": measure.Job(lambda: time.sleep(0.05))}
    contest = measure.compete(jobs, measure.Effort(budget=0.3, block=0.02, least=2, most=50))
    assert contest.calls["cheap"] > contest.calls["dear"] == 1
    assert 2 <= len(contest.times["dear"]) <= 6


def test_a_slow_contender_takes_part_in_two_rounds() -> None:
    jobs = {"quick": measure.Job(lambda: time.sleep(0.002)), "slow": measure.Job(lambda: time.sleep(0.05))}
    contest = measure.compete(jobs, measure.Effort(budget=10, block=0, least=2, most=5, slow=0.03))
    assert {name: len(times) for name, times in contest.times.items()} == {"quick": 5, "slow": 2}
    assert contest.ratio("slow", "quick").count == 2


def test_circumstances_name_versions_and_threads() -> None:
    found = measure.circumstances()
    assert found["threads"] >= 1 and found["usable_cores"] >= 1
    assert {"flowvi", "torch", "numpy"} <= found["versions"].keys()
