"""The bound: shares by weight in the order of the gate's choices and of the arrivals, while processes are killed -9."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.fair.bound import NOTHING, Found, Slack, check
from benchmarks.fair.choices import Choice, Order, could_go_until, in_order, moved
from benchmarks.fair.gateway import Callers, await_workers, kill_scheduler, kill_worker, operation, running
from benchmarks.fair.history import Call, Calls, read_calls, read_choices
from benchmarks.pacing.figures import await_end, figures_of
from benchmarks.pacing.promise import LATE_SECONDS
from benchmarks.pacing.scenarios import Run, Scenario
from benchmarks.pacing.stack import Stack
from benchmarks.verdict import Verdicts
from tidegate.operations.sharing import key_of

_RATE = 50
_WEIGHTS = (1.0, 2.0, 0.5, 3.0)
# So many calls may change places by coming at any instant within 20 ms of their slots, which lie 20.4 ms apart.
_FIT = int(LATE_SECONDS / ((1 + LATE_SECONDS) / _RATE)) + 1
_LEAST_USED = 0.97


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """So many clients with so many partitions each, of equal or unequal weights, on both levels.

    `is_shared`: else all wait in one line, for comparison.
    """

    clients: int
    each: int
    is_equal: bool
    jobs: int
    is_shared: bool = True

    @property
    def lane(self) -> str:
        """The name of its downstream."""
        if not self.is_shared:
            return "in-one-line"
        return f"of-{self.clients * self.each}-{'equal' if self.is_equal else 'unequal'}"

    @property
    def title(self) -> str:
        """In words."""
        if not self.is_shared:
            return "for comparison, without partitions"
        return f"{self.clients} x {self.each} partitions, {'equal' if self.is_equal else 'unequal'} weights"

    def client_weights(self) -> dict[str, float]:
        """By the clients' names."""
        return {f"client-{number}": self._weight(number) for number in range(self.clients)}

    def weights(self) -> dict[str, float]:
        """By the partitions' names, the same for each client."""
        return {f"p{number}": self._weight(number) for number in range(self.each)}

    def _weight(self, number: int) -> float:
        return 1.0 if self.is_equal else _WEIGHTS[number % len(_WEIGHTS)]

    def operations(self) -> str:
        """Its part of the operations file."""
        by = "header" if self.is_shared else "none"
        lines = [f'[downstreams.{self.lane}]\nrate = "{_RATE}/s"\npartition = "{by}"']
        if not self.is_equal:
            lines += [
                f"[downstreams.{self.lane}.partitions.{name}]\nweight = {weight}"
                for name, weight in self.weights().items()
            ]
        return "\n".join([*lines, operation(self.lane)])

    def backlog(self) -> dict[str, list[str]]:
        """By client: a partition for each job, in a drawn order; as many as its share, so that all end together."""
        random = Random(7)  # noqa: S311 - to be repeated
        clients, names = self.client_weights(), self.weights()
        found = {}
        for client, its in clients.items():
            own = self.jobs * its / sum(clients.values())
            found[client] = [
                name for name, weight in names.items() for _ in range(max(2, round(own * weight / sum(names.values()))))
            ]
            random.shuffle(found[client])
        return found


_IN_ONE_LINE = Crowd(clients=2, each=1, is_equal=True, jobs=1000, is_shared=False)
FULL = (
    *(
        Crowd(clients=clients, each=each, is_equal=is_equal, jobs=jobs)
        for clients, each, jobs in ((2, 2, 1000), (2, 10, 1000), (10, 100, 3000))
        for is_equal in (True, False)
    ),
    _IN_ONE_LINE,
)
QUICK = tuple(
    Crowd(clients=clients, each=each, is_equal=is_equal, jobs=jobs)
    for clients, each, jobs, is_equal in ((2, 2, 600, True), (2, 10, 600, False))
)


def measure(verdicts: Verdicts, crowds: Sequence[Crowd]) -> None:
    """Lets each crowd's backlog out, one after the other, in one stack."""
    names = max((crowd.client_weights() for crowd in crowds), key=len)
    operations = "\n".join(crowd.operations() for crowd in crowds)
    with running(verdicts.database, operations, clients=[*names]) as (stack, callers):
        for crowd in crowds:
            _measure(verdicts, crowd, stack, callers)


def _measure(verdicts: Verdicts, crowd: Crowd, stack: Stack, callers: Callers) -> None:
    await_workers(stack)
    stack.limit(crowd.lane, paused=True)
    for client, weight in crowd.client_weights().items():
        if weight != 1.0:
            callers.change(crowd.lane, "", client=client, weight=weight)
    for client, partitions in crowd.backlog().items():
        callers.submit(crowd.lane, partitions, client=client)
    run = Run(stack)
    stack.limit(crowd.lane, paused=False)
    kill_worker(run, 4)
    kill_scheduler(run, 9)
    await_end(run, longest_seconds=6 * crowd.jobs / _RATE)
    time.sleep(1)  # the last call's line in the log
    _judge_pace(verdicts, crowd, run)
    if not crowd.is_shared:
        return
    names = {client: name for name, client in callers.ids.items()}
    order = in_order(*read_choices(stack.database_url, crowd.lane, names))
    weights = _by_key(crowd)
    _judge_choices(verdicts, crowd, order, weights)
    _judge_arrivals(verdicts, crowd, order, read_calls(stack.log, crowd.lane, order.choices), weights)


def _by_key(crowd: Crowd) -> Mapping[str, Mapping[str, float]]:
    """The weights of clients, as `clients`, and by each client those of its partitions."""
    of_clients = crowd.client_weights()
    within = {
        client: {key_of(client, name): weight for name, weight in crowd.weights().items()} for client in of_clients
    }
    return {"clients": of_clients, **within}


def _judge_choices(verdicts: Verdicts, crowd: Crowd, order: Order, weights: Mapping[str, Mapping[str, float]]) -> None:
    back = order.given_back
    verdicts.list(
        f"turns given back, {crowd.title}", [f"{each.number} of {each.partition}: {each.outcome}" for each in back]
    )
    verdicts.add(
        f"{crowd.title}: choices",
        f"{len(order.choices)}, {len(back)} turns given back, {order.unused} of them not used again, "
        f"{order.unexplained} gaps that no row explains",
        is_kept=None if order.unexplained == 0 else False,
    )
    names = {"client": order.of_clients(), "partition": order.of_partitions()}
    until = {level: could_go_until(order.choices, level) for level in names}
    both = _both_levels(names, until, weights)
    for level, found in both.items():
        verdicts.add(f"{crowd.title}: the bound by choices, {level}", _told(found), is_kept=not found.unfair)
        verdicts.list("beyond the bound", [str(each) for each in found.unfair])


def _judge_arrivals(
    verdicts: Verdicts, crowd: Crowd, order: Order, calls: Calls, weights: Mapping[str, Mapping[str, float]]
) -> None:
    late = [call for call in calls.calls if call.arrival.at - call.choice.slot > LATE_SECONDS]
    early = [call for call in calls.calls if call.arrival.at < call.choice.slot - 0.001]
    others = moved(order.choices)
    verdicts.list("calls that were lost or not made", [_named(each) for each in calls.without])
    verdicts.list("calls that took a new slot", [_named(each) for each in others])
    verdicts.list("calls more than 20 ms late for their slot", [_named(call.choice) for call in late])
    verdicts.list("calls before their slot", [_named(call.choice) for call in early])
    verdicts.list("further calls of the same choice", [_named(call.choice) for call in calls.again])
    far = {
        each.number: each
        for each in (*calls.without, *others, *(call.choice for call in (*late, *early, *calls.again)))
    }
    slack = {
        name: Slack(shifted=_FIT, apart=Counter(getattr(each, name) for each in far.values()))
        for name in ("client", "partition")
    }
    arrived = [call.choice for call in calls.calls]
    names = {"client": [each.client for each in arrived], "partition": [each.partition for each in arrived]}
    both = _both_levels(names, _until_in_log(order.choices, calls.calls), weights, slack)
    for level, found in both.items():
        verdicts.add(
            f"{crowd.title}: the bound by arrivals, {level}",
            f"{_told(found)}, with {_FIT} call(s) of 20 ms at each end and {len(far)} lost, late or moved",
            is_kept=not found.unfair,
        )
        verdicts.list("beyond the bound", [str(each) for each in found.unfair])


def _until_in_log(choices: Sequence[Choice], calls: Sequence[Call]) -> Mapping[str, Mapping[str, int]]:
    """As `could_go_until`, as places in the log: of the first call behind the slot of that last choice."""
    found: dict[str, dict[str, int]] = {}
    for level in ("client", "partition"):
        found[level] = {}
        for name, place in could_go_until(choices, level).items():
            end = choices[place - 1].slot
            found[level][name] = next(
                (number for number, call in enumerate(calls) if call.arrival.at >= end), len(calls)
            )
    return found


def _both_levels(
    names: Mapping[str, Sequence[str]],
    until: Mapping[str, Mapping[str, int]],
    weights: Mapping[str, Mapping[str, float]],
    slack: Mapping[str, Slack] | None = None,
) -> Mapping[str, Found]:
    """By level: an order as `client`s and as `partition`s, and how long each could go."""
    slack = slack or {}
    within = NOTHING
    for client, its in weights.items():
        if client != "clients":
            within = within.joined(check(names["partition"], its, until["partition"], slack.get("partition")))
    return {
        "between clients": check(names["client"], weights["clients"], until["client"], slack.get("client")),
        "within clients": within,
    }


def _judge_pace(verdicts: Verdicts, crowd: Crowd, run: Run) -> None:
    figures = figures_of(
        Scenario(name="fair", title=crowd.title, lane=crowd.lane, limits="", rate=_RATE, windows=((1.0, _RATE),)), run
    )
    used = figures.utilisation or 0.0
    verdicts.add(
        f"{crowd.title}: used of the lane",
        f"{used:.1%} of {_RATE}/s, 98.0 % is the most",
        is_kept=used >= _LEAST_USED if crowd.is_shared else None,
    )
    most = ", ".join(f"{number} in any {window}" for window, number in figures.most.items())
    verdicts.add(f"{crowd.title}: most calls", most, is_kept=not figures.broken and not figures.unfinished)
    verdicts.list("windows beyond the rate", figures.broken)
    verdicts.list("unfinished", [str(figures.unfinished)] if figures.unfinished else [])


def _told(found: Found) -> str:
    return f"{found.pairs} pairs in every stretch, {len(found.unfair)} beyond; nearest: {found.worst}"


def _named(choice: Choice) -> str:
    return f"turn {choice.number} of {choice.partition}, {choice.outcome}"
