"""Planted bugs of shared downstreams: in the turns that partitions take, and in limits of their own."""

from tests.simulation.bug import Bug

_BOOK = "tidegate/dispatch/partitions/book.py"
_FAIR = "tidegate/fairness.py"
_ROUND = "tidegate/dispatch/partitions/round.py"
_STORE = "tidegate/dispatch/partitions/store.py"
_WRITES = "tidegate/dispatch/partitions/writes.py"

PARTITION_BUGS: tuple[Bug, ...] = (
    # Turns.
    Bug(
        "a newcomer gets credit",
        _FAIR,
        "        turn = max(self.turn, clock)\n",
        "        turn = self.turn\n",
    ),
    Bug(
        "the clock of the clients stands still",
        _ROUND,
        "return partitions, clients, self._fair.clients.clock",
        "return partitions, clients, self._book.clock",
    ),
    Bug(
        "a turn is not given back",
        _WRITES,
        "        turns = len(taken)\n",
        "        turns = 0\n",
    ),
    Bug(
        "a turn is given back twice",
        _WRITES,
        "        turns = len(taken)\n",
        "        turns = 2 * len(taken)\n",
    ),
    Bug(
        "a call that was made gives its turn back",
        "tidegate/execution/runner.py",
        "return replace(outcome, was_called=outcome.was_called or start.has_begun)",
        "return outcome",
    ),
    Bug(
        "a change of weight rescales nothing",
        _FAIR,
        "return replace(self, weight=weight, turn=clock + round(ahead * Fraction(self.weight) / Fraction(weight)))",
        "return replace(self, weight=weight, turn=clock + ahead)",
    ),
    Bug("a weight counts for nothing", _FAIR, "round(TURN / Fraction(weight))", "round(TURN / Fraction(1))"),
    # Limits of each.
    Bug(
        "one call of a partition too many",
        _BOOK,
        "opened >= each.limits.most_open",
        "opened > each.limits.most_open",
    ),
    Bug(
        "a retry takes no slot of its partition",
        _ROUND,
        "            self._take_own_slot(key, slot)\n",
        "            if job is None or not job.fence:\n                self._take_own_slot(key, slot)\n",
    ),
    Bug(
        "a paused partition goes on",
        _BOOK,
        "if each.paused or self._is_full(key, opened):",
        "if self._is_full(key, opened):",
    ),
    Bug(
        "a strict partition has two calls",
        "tidegate/operations/sharing.py",
        "return 1 if self.is_strict else self.concurrency",
        "return 2 if self.is_strict else self.concurrency",
        beside=Bug("", _STORE, '"most": 1, **_given(keys)', '"most": 2, **_given(keys)'),
    ),
    Bug(
        "a strict partition does not wait for its first",
        _STORE,
        "first = in_order.limit(most)",
        "first = in_order.where(jobs.c.run_at <= statement_now()).limit(most)",
    ),
)
