"""One attempt as a worker makes it: a real Runner with operations that the test makes."""

from collections.abc import Callable
from typing import Any

from tests.support.jobs import LANE, LEASE, open_lane, release_one, submit
from tidegate.execution.handoff import Handoff, SilentHandoff
from tidegate.execution.runner import Runner
from tidegate.execution.token_keeper import TokenKeeper
from tidegate.notify.notifier import SilentNotifier
from tidegate.operations.operation import Operation
from tidegate.operations.python_operation import operation
from tidegate.operations.registry import Registry
from tidegate.stores import Store


def runner_of(
    store: Store,
    *operations: Operation,
    max_result: int = 10_000,
    tokens: TokenKeeper | None = None,
    handoff: Handoff | None = None,
) -> Runner:
    """A runner of a worker that knows these operations."""
    return Runner(
        store,
        Registry.of(operations),
        worker="mine",
        lease=LEASE,
        max_result=max_result,
        notifier=SilentNotifier(),
        handoff=handoff or SilentHandoff(),
        tokens=tokens,
    )


def run_operation(store: Store, made: Operation, *, max_result: int = 10_000) -> str:
    """Submits, releases and runs one job of this operation; its id."""
    open_lane(store)
    attempts, by_calls = made.retry.attempts, made.paced_by_calls
    job_id = submit(store, operation=made.name, max_attempts=attempts, paced_by_calls=by_calls)
    assert runner_of(store, made, max_result=max_result).run(job_id, release_one(store).fence)
    return job_id


def run_one(store: Store, function: Callable[..., Any], *, max_result: int = 10_000, **options: Any) -> str:
    """Submits, releases and runs one job whose operation is this function; its id."""
    made = operation(name="made", downstream=LANE, **options)(function)
    return run_operation(store, made, max_result=max_result)
