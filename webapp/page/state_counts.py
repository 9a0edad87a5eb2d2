"""How many jobs are in each state, for the top of the overview: what is known already, and bounded counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tidegate.maintenance.overview import JobCount
from tidegate.states import FINAL_STATES, State

MOST_COUNTED = 1000
"""So many jobs a look counts by itself."""


@dataclass(frozen=True, kw_only=True)
class StateCount:
    """One state's number of jobs. `is_whole`: there are no more."""

    state: State
    number: int
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class StateCounts:
    """The numbers of all states. `counted_at`: when a scheduler counted those that have ended.

    `newest`: only so many of the viewer's newest jobs are in them; None: all.
    """

    each: tuple[StateCount, ...]
    counted_at: datetime | None = None
    newest: int | None = None


def of_everybody(*, queued: int, running: int, most_running: int, counted: JobCount) -> StateCounts:
    """The numbers of all clients' jobs. `queued` is an estimate where more are open than are counted."""
    open_ones = (
        StateCount(state=State.QUEUED, number=queued),
        StateCount(state=State.RUNNING, number=running, is_whole=running < most_running),
    )
    ended = (
        StateCount(state=state, number=counted.final[state], is_whole=counted.is_whole)
        for state in State
        if state in FINAL_STATES
    )
    return StateCounts(each=(*open_ones, *ended), counted_at=None if counted.is_whole else counted.counted_at)


def of_client(newest: Mapping[State, int]) -> StateCounts:
    """The numbers of one client's newest jobs, MOST_COUNTED of them at the most."""
    is_all = sum(newest.values()) < MOST_COUNTED
    each = tuple(StateCount(state=state, number=newest[state]) for state in State)
    return StateCounts(each=each, newest=None if is_all else MOST_COUNTED)
