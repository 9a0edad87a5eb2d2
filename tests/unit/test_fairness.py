"""Fair share: between any two that could have gone, calls by weight never differ by more than one turn of each."""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.fairness import TURN, FairShare, Share, Turns, gives_way

_WEIGHTS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 7.0, 100.0])
_ROUNDS = st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=120)


def choose(turns: Turns, able: Iterable[str]) -> str:
    """One call, of these that could go at this moment alone; who could before, and not now, has left."""
    entered = {*turns._able}
    for name in entered - {*able}:
        turns.leave(name)
    for name in {*able} - entered:
        turns.enter(name)
    chosen = turns.next()
    assert chosen is not None
    turns.choose()
    return chosen


def turns_of(weights: list[float]) -> Turns:
    return Turns(shares={str(number): Share(weight=weight) for number, weight in enumerate(weights)})


@given(weights=st.lists(_WEIGHTS, min_size=6, max_size=6), rounds=_ROUNDS)
def test_calls_by_weight_differ_by_a_turn_of_each_at_most_over_any_stretch(
    weights: list[float], rounds: list[set[int]]
) -> None:
    """Of each pair, over each stretch in which both could go, whoever else could or could not."""
    turns = turns_of(weights)
    chosen = [int(choose(turns, [*map(str, able)])) for able in rounds]

    for one in range(6):
        for other in range(one):
            bound = 1 / Fraction(weights[one]) + 1 / Fraction(weights[other])
            for difference in stretches(rounds, chosen, one, other, weights):
                assert difference <= bound * Fraction(10**15 + 1, 10**15)


def stretches(rounds: list[set[int]], chosen: list[int], one: int, other: int, weights: list[float]) -> list[Fraction]:
    """The largest difference of calls by weight within each stretch in which both could have gone."""
    found: list[Fraction] = []
    sums = [Fraction(0)]
    for able, went in zip([*rounds, set[int]()], [*chosen, -1], strict=True):
        if {one, other} <= able:
            step = Fraction(1) / Fraction(weights[went]) if went in (one, other) else Fraction(0)
            sums.append(sums[-1] + (step if went == one else -step))
        else:
            found.append(max(sums) - min(sums))
            sums = [Fraction(0)]
    return found


def test_who_was_idle_has_no_credit_and_leaving_clears_no_debt() -> None:
    turns = turns_of([1, 1, 1 / 3])
    for _ in range(10):
        choose(turns, ["0"])
    choose(turns, ["2"])

    order = [choose(turns, ["0", "1", "2"]) for _ in range(8)]

    assert order[:2] in (["0", "1"], ["1", "0"]), "no more than a turn each before the other"
    assert order.index("2") >= 4, "its call cost three turns, whether it left meanwhile or not"


def test_a_call_that_was_not_made_gives_its_turn_back_also_later() -> None:
    turns = turns_of([1, 1])
    choose(turns, ["0", "1"])
    turns.shares["0"] = turns.shares["0"].given_back()
    for _ in range(5):
        choose(turns, ["1"])

    order = [choose(turns, ["0", "1"]) for _ in range(20)]

    assert order[:2] == ["0", "0"], "the one that was given back, and its own"
    assert 1 <= 2 * order.count("0") - 20 <= 3


def test_a_change_of_weight_rescales_what_it_is_ahead() -> None:
    share = Share(weight=1.0).chosen(0)

    assert share.weighing(4.0, 0).turn == share.turn // 4
    assert share.weighing(0.5, 0).turn == share.turn * 2
    assert share.weighing(4.0, share.turn + 5).turn == share.turn + 5, "who is ahead of nobody owes nothing"


@pytest.mark.parametrize("loud", [1, 50])
def test_a_clients_weight_is_shared_among_its_partitions_however_many(loud: int) -> None:
    fair = FairShare(
        clients=Turns(shares={"loud": Share(), "quiet": Share()}),
        partitions={
            "loud": Turns(shares={str(number): Share() for number in range(loud)}),
            "quiet": Turns(shares={"": Share()}),
        },
    )
    for number in range(loud):
        fair.enter("loud", str(number))
    fair.enter("quiet", "")

    chosen: Counter[str] = Counter()
    for _ in range(100):
        went = fair.next()
        assert went
        fair.choose()
        fair.enter(*went)
        chosen[went[0]] += 1

    assert chosen == {"loud": 50, "quiet": 50}


@given(arrivals=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80), room=st.integers(1, 9))
def test_nobody_is_refused_while_another_holds_two_more(arrivals: list[tuple[str, bool]], room: int) -> None:
    """Whoever comes and goes; and what is let go is never more than the one place that is needed."""
    held: Counter[str] = Counter()
    for name, leaves in arrivals:
        if leaves:
            held[name] -= bool(held[name])
        elif held.total() < room:
            held[name] += 1
        elif giver := gives_way(held, name):
            before = max(held.values())
            held[giver] -= 1
            held[name] += 1
            assert held[name] <= before == held[giver] + 1
        else:
            assert max(held.values()) <= held[name] + 1
        assert held.total() <= room


def test_who_comes_again_at_once_takes_nothing_back() -> None:
    held = Counter(many=9, few=1)
    order = [gives_way(held, name) for name in ("few", "many")]
    assert order == ["many", None]
    held = Counter(many=6, few=5)
    assert gives_way(held, "few") is None, "else the two would change places for ever"
    assert gives_way({}, "first") is None


def test_who_waited_while_the_clock_went_on_elsewhere_gets_no_credit_for_that() -> None:
    """Another scheduler chose meanwhile: as if it came only now."""
    turns = turns_of([1, 1])
    turns.enter("0")
    turns.move_clock(10 * TURN)

    turns.choose()

    assert turns.shares["0"].turn == 11 * TURN
