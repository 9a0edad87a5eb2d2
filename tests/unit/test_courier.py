"""How the places of the senders are shared out, and when a delivery is tried again."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from tidegate.webhooks.delivery import GIVE_UP_AFTER, DeliveryClaim, Sent
from tidegate.webhooks.receivers import Receiver, SenderTurns
from tidegate.webhooks.sender import next_try, rest_after


def receiver(name: str, *, due_at: int | None = 0, in_flight: int = 0, good: bool = True) -> Receiver:
    """One of a client `c`, unless the name says another."""
    return Receiver(name=name if " " in name else f"c {name}", due_at=due_at, in_flight=in_flight, is_good=good)


def choose(receivers: list[Receiver], *, places: int) -> dict[str, int]:
    """As one who remembers no turns yet."""
    return SenderTurns().choose(receivers, places=places)


def test_a_good_receiver_gets_a_quarter_of_the_places() -> None:
    assert choose([receiver("a")], places=16) == {"c a": 4}
    assert choose([receiver("a", in_flight=3)], places=16) == {"c a": 1}
    assert choose([receiver("a", in_flight=4)], places=16) == {}


def test_an_unknown_receiver_gets_one_place_and_all_of_them_half() -> None:
    unknown = [receiver(f"x{number:03}", due_at=number, good=False) for number in range(100)]
    chosen = choose(unknown, places=16)
    assert chosen == {f"c x{number:03}": 1 for number in range(8)}


def test_dead_receivers_leave_half_of_the_places_to_those_that_answer() -> None:
    dead = [receiver(f"x{number}", in_flight=1, good=False) for number in range(8)]
    assert choose([*dead, receiver("a"), receiver("b")], places=16) == {"c a": 4, "c b": 4}


def test_places_go_round_among_clients_and_then_receivers() -> None:
    greedy = [receiver(f"one x{number}", due_at=number) for number in range(20)]
    chosen = choose([*greedy, receiver("two a", due_at=99)], places=8)
    assert chosen["two a"] == 2
    assert sum(chosen.values()) == 8
    assert all(count == 1 for name, count in chosen.items() if name.startswith("one"))


class Senders:
    """So many places, whose deliveries all end in the order in which they began; each receiver has a long backlog.

    `schedulers` look in turn; each remembers the turns of its own releases.
    """

    def __init__(self, places: int, schedulers: int = 1) -> None:
        self.schedulers = [SenderTurns() for _ in range(schedulers)]
        self.places = places
        self.in_flight: list[str] = []
        self.sent: list[str] = []

    def send(self, due: dict[str, int], number: int) -> list[str]:
        """Sends so many of what is due, by receiver since when; to whom, in order."""
        for step in range(number):
            turns = self.schedulers[step % len(self.schedulers)]
            if len(self.in_flight) == self.places:
                self.in_flight.pop(0)
            flying = {name: self.in_flight.count(name) for name in {*due, *self.in_flight}}
            known = [receiver(name, due_at=due.get(name), in_flight=count) for name, count in flying.items()]
            for name, count in turns.choose(known, places=self.places).items():
                turns.released({name: count})
                self.in_flight += [name] * count
                self.sent += [name] * count
            turns.forget(flying)
        return self.sent


@pytest.mark.parametrize("places", [1, 2, 3])
def test_of_more_clients_than_places_each_gets_its_turn_however_old_the_others_backlogs(places: int) -> None:
    """The oldest went first of those with equally many in flight: the others waited until its backlog was sent."""
    sent = Senders(places).send({f"client{number} a": number for number in range(7)}, 70)
    counts = [sent.count(f"client{number} a") for number in range(7)]
    assert max(counts) - min(counts) <= 2, counts


def test_two_schedulers_that_remember_their_own_turns_are_fair_together() -> None:
    sent = Senders(1, schedulers=2).send({f"client{number} a": number for number in range(5)}, 100)
    counts = [sent.count(f"client{number} a") for number in range(5)]
    assert max(counts) - min(counts) <= 2, "a turn for each of them"


def test_of_a_clients_receivers_each_gets_its_turn_and_has_no_more_by_its_number() -> None:
    senders = Senders(2)
    many = {f"one x{number:02}": number for number in range(20)}
    senders.send(many, 30)
    del senders.sent[:]
    sent = senders.send({**many, "two a": 99}, 60)
    assert sent[:4].count("two a") >= 1, "a newcomer is among the next"
    assert 28 <= sent.count("two a") <= 32, "half of all, beside twenty of another client"
    counts = [sent.count(name) for name in many]
    assert max(counts) - min(counts) <= 1, counts


def test_who_comes_for_one_delivery_at_a_time_owes_its_last_turn() -> None:
    senders = Senders(1)
    for step in range(40):
        senders.send({"one a": 0, **({"two b": step} if step % 2 == 0 or step > 20 else {})}, 1)
    assert 18 <= senders.sent.count("two b") <= 21
    assert senders.sent[21:].count("two b") <= 11


def test_what_is_remembered_of_receivers_that_are_gone_is_bounded() -> None:
    turns = SenderTurns()
    for number in range(30_000):
        turns.released({f"one x{number}": 1})
    turns.forget(set())
    assert sum(len(each.shares) for each in turns._receivers.values()) <= 10_001


@pytest.mark.parametrize("places", [0, 1, 2, 3])
def test_few_places_are_used_and_no_more(places: int) -> None:
    everybody = [receiver("a"), receiver("b"), receiver("c"), receiver("x", good=False), receiver("idle", due_at=None)]
    assert sum(choose(everybody, places=places).values()) == places


def claim(**values: Any) -> DeliveryClaim:
    """A claim of a first attempt."""
    given = {"number": 1, "tries": 1, "left": GIVE_UP_AFTER, "receiver_failures": None, **values}
    now = datetime(2026, 11, 23, tzinfo=UTC)
    texts: dict[str, Any] = dict.fromkeys(("job_id", "client_id", "url", "base_url", "receiver", "event"), "x")
    return DeliveryClaim(fence=1, created_at=now, **texts, **given)


def delays(*, seed: int) -> list[timedelta]:
    """Of a delivery that is never taken, until it is given up."""
    random = Random(seed)  # noqa: S311 - repeatable, and guards nothing
    left, found = GIVE_UP_AFTER, list[timedelta]()
    while (delay := next_try(claim(tries=len(found) + 1, left=left), Sent(seconds=1, status=500), random)) is not None:
        found.append(delay)
        left -= delay
    return found


def test_it_is_tried_for_a_day_with_growing_and_scattered_delays() -> None:
    found = delays(seed=1)
    assert sum(found, timedelta(0)) == GIVE_UP_AFTER, "the last attempt is made when the day is over"
    assert 10 <= len(found) <= 16
    for number, delay in enumerate(found[:6]):
        assert 0.75 * 5 * 4**number <= delay.total_seconds() <= 1.25 * 5 * 4**number
    assert found != delays(seed=2)


def test_what_was_taken_or_is_not_wanted_is_not_sent_again() -> None:
    for status in (200, 202, 204, 299, 410):
        assert next_try(claim(), Sent(seconds=1, status=status)) is None
    for status in (301, 400, 404, 429, 500, 503):
        assert next_try(claim(), Sent(seconds=1, status=status)) is not None


def test_a_retry_after_is_waited_for_within_the_day() -> None:
    asked = Sent(seconds=1, status=503, retry_after=timedelta(hours=2))
    assert next_try(claim(), asked) == timedelta(hours=2)
    assert next_try(claim(left=timedelta(hours=1)), asked) == timedelta(hours=1)


def test_a_silent_receiver_rests_longer_each_time_and_one_that_answers_does_not() -> None:
    silent = Sent(seconds=15, error="no answer in time")
    rests = [rest_after(claim(receiver_failures=failures), silent) for failures in (None, 1, 2, 5, 6, 100)]
    assert rests == [timedelta(seconds=seconds) for seconds in (1, 2, 4, 32, 60, 60)]
    assert rest_after(claim(), Sent(seconds=1, status=500)) is None
    assert rest_after(claim(), Sent(seconds=0, was_sent=False)) is None
    busy = Sent(seconds=1, status=429, retry_after=timedelta(days=1))
    assert rest_after(claim(), busy) == timedelta(minutes=5)


def test_one_that_answers_slowly_counts_as_one_that_does_not() -> None:
    assert Sent(seconds=2.9, status=500).is_prompt
    assert not Sent(seconds=3.1, status=200).is_prompt
    assert not Sent(seconds=0.1).is_prompt
