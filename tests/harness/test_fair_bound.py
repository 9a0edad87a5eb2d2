"""The judge of fair shares tells right orders from wrong ones, and turns that were used again from further ones."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fair.bound import Slack, check
from benchmarks.fair.choices import Choice, could_go_until, in_order, moved
from benchmarks.fair.strict import at_once, out_of_order
from benchmarks.pacing.arrivals import Arrival
from tidegate.fairness import Share, Turns

_WEIGHTS = st.sampled_from([0.5, 1.0, 2.0, 3.0])


def apart(order: Sequence[str], one: str, other: str, weights: dict[str, float], end: int) -> Fraction:
    """The widest stretch by trying each."""
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    places = range(end)
    return max(
        (
            abs(order[first : last + 1].count(one) / exact[one] - order[first : last + 1].count(other) / exact[other])
            for first, last in itertools.combinations_with_replacement(places, 2)
        ),
        default=Fraction(0),
    )


def fair(weights: dict[str, float], length: int) -> list[str]:
    turns = Turns(shares={name: Share(weight=weight) for name, weight in weights.items()})
    for name in weights:
        turns.enter(name)
    order: list[str] = []
    for _ in range(length):
        order.append(str(turns.next()))
        turns.choose()
        turns.enter(order[-1])
    return order


def forever(weights: dict[str, float], order: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(weights, len(order))


@given(
    order=st.lists(st.sampled_from("abc"), max_size=14),
    weights=st.fixed_dictionaries({"a": _WEIGHTS, "b": _WEIGHTS, "c": _WEIGHTS}),
    until=st.fixed_dictionaries(dict.fromkeys("abc", st.integers(0, 14))),
)
def test_one_pass_finds_what_trying_all_stretches_finds(
    order: list[str], weights: dict[str, float], until: dict[str, int]
) -> None:
    until = {name: min(end, len(order)) for name, end in until.items()}
    # What comes behind the end of one is not looked at.
    widest = {
        (one, other): apart(order, one, other, weights, min(until[one], until[other]))
        for one, other in itertools.combinations("abc", 2)
    }
    allowed = {pair: sum(1 / Fraction(str(weights[name])) for name in pair) for pair in widest}

    found = check(order, weights, until)

    assert found.pairs == 3
    assert {(each.one, each.other) for each in found.unfair} == {
        pair for pair, span in widest.items() if span > allowed[pair]
    }
    assert found.worst
    assert found.worst.apart / found.worst.allowed == max(widest[pair] / allowed[pair] for pair in widest)
    pair = (found.worst.one, found.worst.other)
    assert widest[pair] == found.worst.apart
    stretch = order[found.worst.first : found.worst.last + 1]
    if found.worst.apart:
        assert apart(stretch, *pair, weights, len(stretch)) == found.worst.apart, "its places are told rightly"


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0, "c": 0.5, "d": 2.0}], ids=str)
def test_what_the_gate_does_is_fair_and_one_choice_too_many_is_not(weights: dict[str, float]) -> None:
    order = fair(weights, 200)
    assert not check(order, weights, forever(weights, order)).unfair

    heavy = max(weights, key=lambda name: weights[name])
    spoiled = [*order[:100], *[heavy] * (1 + round(3 * weights[heavy])), *order[100:]]

    assert check(spoiled, weights, forever(weights, spoiled)).unfair


def test_the_order_of_arrival_of_jobs_is_not_fair() -> None:
    order = ["a"] * 10 + ["b"] * 10
    (found,) = check(order, {"a": 1.0, "b": 1.0}, {"a": 20, "b": 20}).unfair
    assert (int(found.apart), int(found.allowed), found.first, found.last) == (10, 2, 0, 9)


def test_who_could_go_no_longer_is_owed_nothing() -> None:
    order = ["a", "b", "a", "b", "a", "a", "a", "a", "a"]
    assert not check(order, {"a": 1.0, "b": 1.0}, {"a": 9, "b": 4}).unfair
    assert check(order, {"a": 1.0, "b": 1.0}, {"a": 9, "b": 9}).unfair


def test_a_log_may_differ_by_what_is_listed_and_no_further() -> None:
    order = ["a", "b"] * 5 + ["a"] * 5
    weights, until = {"a": 1.0, "b": 1.0}, {"a": 15, "b": 15}
    assert check(order, weights, until, Slack(shifted=1, apart={})).unfair
    assert not check(order, weights, until, Slack(shifted=1, apart={"b": 2})).unfair


def choice(number: int, partition: str, **more: object) -> Choice:
    values: dict[str, object] = {"job": f"job-{number}", "released": float(number), "slot": float(number), **more}
    return Choice(number=number, client=partition[0], partition=partition, **values)  # type: ignore[arg-type]


def test_a_turn_that_was_given_back_counts_once() -> None:
    """Choice 1 of c/x is given back as number 3; c/y is the client's next, c/x the partition's."""
    choices = [
        choice(1, "c/x", is_given_back=True, ended=2.5),
        choice(2, "d/z"),
        choice(4, "c/y"),
        choice(5, "c/x"),
        choice(6, "c/x"),
    ]

    order = in_order(choices, 6)

    assert order.of_clients() == ["c", "d", "", "c", "c"]
    assert order.of_partitions() == ["c/x", "d/z", "c/y", "", "c/x"]
    assert (order.unexplained, order.unused) == (0, 0)


def test_a_gap_that_no_row_explains_is_told_and_a_turn_that_was_never_used_again() -> None:
    assert in_order([choice(7, "c/x"), choice(9, "c/x")], 9).unexplained == 1
    order = in_order([choice(7, "c/x", is_given_back=True, ended=7.5), choice(9, "d/x")], 9)
    assert (order.unexplained, order.unused) == (0, 1)
    order = in_order([choice(7, "c/x", is_given_back=True, ended=7.5), choice(8, "d/x")], 9)
    assert (order.unexplained, order.unused) == (0, 1)


def test_a_partition_could_go_until_its_last_new_job_was_chosen() -> None:
    choices = [choice(1, "c/x", job="a"), choice(2, "c/y", job="b"), choice(3, "c/x", job="a")]
    assert could_go_until(choices, "partition") == {"c/x": 1, "c/y": 2}
    assert could_go_until(choices, "client") == {"c": 2}


def test_who_took_a_new_slot_is_found() -> None:
    choices = [choice(1, "c/x", slot=1.0), choice(2, "c/x", slot=5.0), choice(3, "c/x", slot=3.0), choice(4, "c/x")]
    assert [each.number for each in moved(choices)] == [2]


def call(job: str, at: float, until: float) -> Arrival:
    return Arrival(at=at, read_at=at, until=until, lane="strict", job=job, status=200, open=1)


@pytest.mark.parametrize(
    ("called", "is_right"),
    [("abc", True), ("aabbc", True), ("acb", False), ("aba", False), ("ac", False), ("ababc", False), ("", False)],
)
def test_an_order_that_is_not_strict_is_found(called: str, *, is_right: bool) -> None:
    calls = [call(job, at, at + 0.5) for at, job in enumerate(called)]
    assert (out_of_order("p", ["a", "b", "c"], calls) == []) is is_right


def test_calls_at_once_are_found() -> None:
    assert at_once("p", [call("a", 1, 2), call("b", 2, 3)]) == []
    assert len(at_once("p", [call("a", 1, 2.1), call("b", 2, 3)])) == 1
