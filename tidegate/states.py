"""The six states of a job and the moves between them."""

from enum import StrEnum


class State(StrEnum):
    """The state of a job. Queued and running are open; the four others are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing moves a job out of this state."""
        return not MOVES[self]


MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.EXPIRED, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.EXPIRED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Every allowed move. The diagram in ARCHITECTURE.md is tested against it."""

FINAL_STATES = frozenset(state for state in State if state.is_final)
OPEN_STATES = frozenset(State) - FINAL_STATES
