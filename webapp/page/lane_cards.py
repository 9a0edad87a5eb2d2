"""The data of a lane's card on the overview: its queue, limits and use, what holds it back, when it will be empty."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tidegate.dispatch.lane_view import LaneView
from tidegate.dispatch.limit_doubt import Refusals, doubt_about
from tidegate.dispatch.limits import LIMITS
from tidegate.dispatch.partitions.busiest import Busiest
from webapp.page.plot import SHOWN, SPAN, Plot, Reading, busiest_of, plot_of, used_per_second


class Mood(StrEnum):
    """The status of a lane in a word: the first of these that holds."""

    PAUSED = "paused"
    BROKEN = "broken"
    RESTING = "resting"
    NO_WORKER = "no_worker"
    FULL = "full"
    FLOWING = "flowing"
    IDLE = "idle"


MOODS = {
    Mood.PAUSED: "Paused",
    Mood.BROKEN: "Breaker open",
    Mood.RESTING: "Resting",
    Mood.NO_WORKER: "No worker",
    Mood.FULL: "All places taken",
    Mood.FLOWING: "Flowing",
    Mood.IDLE: "Idle",
}


@dataclass(frozen=True, kw_only=True)
class BusyPartition:
    """A partition on a lane's card. `part`: of the calls that ended in the last minute; `waiting` None: not told."""

    key: str
    part: float | None
    waiting: int | None


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The partitions of a lane that is shared: `number` of those in which jobs wait, and the busiest.

    `others`: the part of the calls that was of no partition that is shown; None: not told.
    """

    number: int
    busiest: tuple[BusyPartition, ...]
    others: float | None


@dataclass(frozen=True, kw_only=True)
class Fill:
    """How full a lane's calls were in the last minute, where they have several jobs.

    `most`: jobs that a call may have. `jobs`: that one had on average; None: there was none. `halved`: how many calls
    were tried again in halves.
    """

    most: int
    jobs: float | None
    halved: int


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Data of a lane that only operators see, over all clients. `used` None: not measured yet.

    `doubt`: why a limit looks wrong. `crowd`: None where jobs wait in one line. `fill` None: none of its operations
    takes several jobs in a call.
    """

    in_flight: int
    used: float | None
    plot: Plot | None
    changed: tuple[str, ...]
    declared: tuple[str, ...]
    doubt: str | None
    crowd: Crowd | None
    fill: Fill | None


@dataclass(frozen=True, kw_only=True)
class LaneCard:
    """A lane's card.

    `waiting`, `running`: the viewer's jobs, an operator has everybody's. `empty_at` None: can't be told. `stale_for`:
    for so long no scheduler sampled it, though jobs are due.
    """

    name: str
    mood: Mood
    mood_text: str
    rates: tuple[str, ...]
    allowed: float | None
    burst: int
    concurrency: int | None
    paused: bool
    rests_until: datetime | None
    waiting: int
    running: int
    empty_at: datetime | None
    seen_at: datetime
    stale_for: timedelta | None
    flow: Flow | None

    @property
    def is_held_back(self) -> bool:
        """Whether nothing is released although the operator may not have wanted that."""
        return self.mood in {Mood.PAUSED, Mood.BROKEN, Mood.RESTING, Mood.NO_WORKER}


def card_of(
    view: LaneView,
    *,
    queues: Sequence[str],
    submitted: int,
    client_id: str | None,
    running: int,
    in_flight: int,
    refusals: Refusals | None,
    history: Sequence[Reading],
    is_overdue: bool,
    is_shared: bool = False,
    busiest: Busiest | None = None,
    most_in_call: int = 1,
) -> LaneCard:
    """Makes the card of a lane. `submitted`: since its sample; `client_id` None: for an operator.

    `busiest`: of its partitions, where it `is_shared`, as sampled; None: none waits. `most_in_call`: how many jobs one
    call may have.
    """
    downstream = view.downstream
    waiting = _backlog(view, submitted) if client_id is None else view.backlog_of(client_id)
    empty_at = view.start_of(downstream.seen_at, downstream.seen_at, behind=submitted)
    mood = _mood(view, queues, waiting=waiting, in_flight=in_flight)
    used = used_per_second(history)
    doubt = doubt_about(downstream, refusals)
    shown = busiest_of(history) if is_shared else []
    flow = Flow(
        in_flight=in_flight,
        used=used[-1] if used else None,
        plot=plot_of(history, used, [key for key, _ in shown]),
        changed=tuple(name for name in LIMITS if name in downstream.changes),
        declared=downstream.declared.rates,
        doubt=doubt.message if doubt else None,
        crowd=_crowd(shown, busiest) if is_shared else None,
        fill=_fill(history, most_in_call) if most_in_call > 1 else None,
    )
    stale_for = downstream.seen_at - (view.sampled_at or datetime.min.replace(tzinfo=downstream.seen_at.tzinfo))
    return LaneCard(
        name=downstream.name,
        mood=mood,
        mood_text=MOODS[mood],
        rates=downstream.limits.rates,
        allowed=view.allowed_per_second,
        burst=downstream.limits.burst,
        concurrency=downstream.limits.concurrency,
        paused=downstream.paused,
        rests_until=downstream.rests_until,
        waiting=waiting,
        running=running,
        empty_at=empty_at if waiting else None,
        seen_at=downstream.seen_at,
        stale_for=stale_for if is_overdue and stale_for > STALE_AFTER else None,
        flow=flow if client_id is None else None,
    )


def _crowd(shown: Sequence[tuple[str, float]], busiest: Busiest | None) -> Crowd:
    waiting = {each.key: each.waiting for each in busiest.named} if busiest else {}
    is_all = busiest is None or busiest.number <= len(waiting)
    if not shown:
        found = [BusyPartition(key=key, part=None, waiting=number) for key, number in [*waiting.items()][:SHOWN]]
    else:
        found = [
            BusyPartition(key=key, part=part, waiting=waiting.get(key, 0 if is_all else None)) for key, part in shown
        ]
    others = 1.0 - sum(part for _, part in shown) if shown else None
    return Crowd(number=busiest.number if busiest else 0, busiest=tuple(found), others=others)


STALE_AFTER = timedelta(seconds=30)
"""A scheduler samples each second, and with a million jobs each ten."""


def _fill(history: Sequence[Reading], most: int) -> Fill:
    since = history[-1].at - SPAN
    first, last = next(reading for reading in history if reading.at >= since), history[-1]
    calls = last.released - first.released
    jobs = 1 + (last.companions - first.companions) / calls if calls > 0 else None
    return Fill(most=most, jobs=jobs, halved=max(0, last.halved - first.halved))


def _backlog(view: LaneView, submitted: int) -> int:
    sample = view.sample
    if sample is None or not sample.backlog:
        return view.position_of(view.downstream.seen_at, submitted)
    return max(0, sample.backlog + submitted - (view.downstream.released_jobs - sample.released_jobs))


def _mood(view: LaneView, queues: Sequence[str], *, waiting: int, in_flight: int) -> Mood:
    downstream, sizes = view.downstream, view.worker_sizes or {}
    is_full = downstream.limits.concurrency is not None and in_flight >= downstream.limits.concurrency
    moods = (
        (downstream.paused, Mood.PAUSED),
        (downstream.is_broken, Mood.BROKEN),
        (downstream.rests_until is not None, Mood.RESTING),
        (any(not sizes.get(queue) for queue in queues), Mood.NO_WORKER),
        (is_full and waiting > 0, Mood.FULL),
        (waiting > 0 or in_flight > 0, Mood.FLOWING),
    )
    return next((mood for holds, mood in moods if holds), Mood.IDLE)
