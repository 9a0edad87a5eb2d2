"""Waits until a claimed job's call may begin: a follower for the call before it, then each for its slot."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from tidegate import clock, rate_limit
from tidegate.database.connection import UNREACHABLE
from tidegate.database.retrying import retry_until_answered
from tidegate.errors import AttemptStopped
from tidegate.execution.attempt import Turn
from tidegate.execution.handoff import Handoff
from tidegate.execution.slot_store import SlotStore
from tidegate.jobs.job import Claim

log = logging.getLogger(__name__)

# The longest that a worker's thread waits for a new slot or a follower's turn.
PATIENCE = timedelta(microseconds=rate_limit.AHEAD)


class Slot(NamedTuple):
    """When a call is due, by this process's monotonic clock, and how many seconds later it may begin."""

    due: float
    late_seconds: float


class Start:
    """The beginning of an attempt's call and the end of its time: both move if its slot is missed meanwhile.

    `began`: when it began or, before that, was made ready; `ends`: when it must be over; `is_missed`: it had no slot in
    time, and did not begin.
    """

    def __init__(
        self, slot_wait: "SlotWait", claim: Claim, *, timeout: timedelta, on_begin: Callable[[], None]
    ) -> None:
        self._slot_wait = slot_wait
        self._claim = claim
        self._timeout = timeout.total_seconds()
        self._on_begin = on_begin
        self._slot: Slot | None = None
        self.is_missed = False
        self._set(claim.slot_due)

    def begin(self) -> float:
        """Right before the first byte: waits for the slot, or for a new one if it is late; returns the seconds left.

        May be called again, and then takes a new slot if the first byte would be late by now. Raises AttemptStopped.
        """
        before, wait = self._slot, self._slot_wait
        slot = wait.reach_slot(self._claim) if before is None else wait.keep_slot(self._claim, before)
        if slot is None:
            self.is_missed = True
            raise AttemptStopped("no slot")
        if slot != before:
            self._slot = slot
            self._set(slot.due)
        if before is None:
            self._on_begin()
        return self.seconds_left

    def pass_to(self, claim: Claim) -> None:
        """Another job of a batch has its slot and its place now."""
        self._claim = claim

    def sent(self) -> None:
        """Right after the first byte: where it was late all the same, the call counts from now on."""
        now, slot = clock.monotonic(), self._slot
        if slot and self._claim.is_paced and now - slot.due > slot.late_seconds:
            log.info("job %s: its first byte was %.0f ms late", self._claim.job_id, 1e3 * (now - slot.due))
            self._slot_wait.postpone(self._claim, now)

    @property
    def has_begun(self) -> bool:
        """Whether the call began, or would have: what became of it only the operation knows."""
        return self._slot is not None and not self.is_missed

    @property
    def seconds_left(self) -> float:
        """Seconds until the call must be over."""
        return self.ends - clock.monotonic()

    def _set(self, due: float) -> None:
        self.began = clock.monotonic()
        self.ends = min(max(due, self.began) + self._timeout, self._claim.deadline_due)


class SlotWait:
    """Waits in an attempt's thread until its call may begin."""

    def __init__(self, slots: SlotStore, handoff: Handoff) -> None:
        self._slots = slots
        self._handoff = handoff

    def reach_turn(self, claim: Claim) -> bool:
        """Waits, as a follower, until the call before it has ended. False: it takes too long, or the lane is paused."""
        if claim.follows is None:
            return True
        until = clock.monotonic() + PATIENCE.total_seconds()
        while (left := until - clock.monotonic()) > 0:
            has_ended = self._handoff.wait(claim.follows, min(left, self._handoff.look_seconds()))
            if has_ended and not self._handoff.is_alarmed():
                return clock.monotonic() < claim.deadline_due
            turn = retry_until_answered(claim.job_id, lambda: self._slots.turn(claim))
            if turn is Turn.NEVER:
                return False
            if turn is Turn.NOW or has_ended:
                return True
        return False

    def reach_slot(self, claim: Claim) -> Slot | None:
        """Waits for the slot, or a new one if that was missed, and returns it. None: the next is too far away."""
        if claim.follows is None:
            return self.keep_slot(claim, Slot(claim.slot_due, claim.late_seconds))
        # Released without a slot, for nobody knew when its turn would come.
        return self.keep_slot(claim, self._new_slot(claim)) if claim.is_paced else Slot(clock.monotonic(), 0.0)

    def keep_slot(self, claim: Claim, slot: Slot | None) -> Slot | None:
        """Waits for this slot, or a new one if it was missed, and returns it. None: the next is too far away."""
        while slot:
            due, late_seconds = slot
            if due - clock.monotonic() > 2 * PATIENCE.total_seconds():
                log.warning("job %s: its slot is of a clock that was set back", claim.job_id)
                if not claim.is_paced:
                    return Slot(clock.monotonic(), late_seconds)
            else:
                clock.sleep(due - clock.monotonic())
                if not claim.is_paced or clock.monotonic() - due <= late_seconds:
                    return slot
                # Calls that were held up must not form a burst.
                late = 1e3 * (clock.monotonic() - due)
                log.info("job %s: %.0f ms late for its slot, takes a new one", claim.job_id, late)
            slot = self._new_slot(claim)
        return None

    def postpone(self, claim: Claim, began: float) -> None:
        """Has a call that began late for its slot counted from then on. A database that is away is not waited for."""
        try:
            self._slots.postpone(claim, began)
        except UNREACHABLE as error:
            log.warning("job %s: that it began late is not counted: %s", claim.job_id, error)

    def _new_slot(self, claim: Claim) -> Slot | None:
        offer = retry_until_answered(claim.job_id, lambda: self._slots.reserve(claim, within=PATIENCE))
        return None if offer.due is None else Slot(offer.due, offer.late_seconds)

    def take_slot(self, claim: Claim, check_time: Callable[[], None], ends: float) -> float:
        """Waits for a slot for `attempt.slot()`, at most until the attempt `ends`; `check_time` raises then.

        Returns until when the call may begin.
        """
        while True:
            offer = retry_until_answered(claim.job_id, lambda: self._slots.reserve(claim, within=PATIENCE))
            if not offer.counts:
                raise AttemptStopped("stopped")
            check_time()
            if offer.due is None:
                clock.sleep(min(offer.wait_seconds, PATIENCE.total_seconds(), ends - clock.monotonic()))
                continue
            clock.sleep(offer.due - clock.monotonic())
            if clock.monotonic() - offer.due <= offer.late_seconds:
                return offer.due + offer.late_seconds
