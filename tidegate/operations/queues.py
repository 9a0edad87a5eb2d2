"""Queues of work: the two that are built in, those of one's own, and the kind of worker that serves each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from tidegate.operations.worker_range import WorkerRange


class Queue(StrEnum):
    """A queue that is built in, which decides the kind of worker that runs an operation. Others are declared."""

    IO = "io"
    """Threads: for operations that wait for the network."""
    CPU = "cpu"
    """Processes with hard time limits: for operations that compute."""


class Pool(StrEnum):
    """What the workers of a queue run attempts in."""

    THREADS = "threads"
    """Threads of one process, none of which can be ended from outside. If it dies, all of its attempts are lost."""
    PROCESSES = "processes"
    """A process for each attempt, with a hard time limit."""


@dataclass(frozen=True, kw_only=True)
class OwnQueue:
    """The declaration of a queue of one's own.

    `concurrency`: attempts side by side in one worker. `workers`: how many of these the embedded default starts; None:
    they run elsewhere.
    """

    name: str
    pool: Pool
    concurrency: int
    workers: WorkerRange | None


BUILT_IN: Mapping[str, Pool] = MappingProxyType({Queue.IO.value: Pool.THREADS, Queue.CPU.value: Pool.PROCESSES})
WEBHOOKS = "webhooks"
"""The queue of the workers that send webhooks; no operation runs there."""
LONGEST_NAME = 20
"""So long are the columns that hold it."""
QUEUE_NAME_RULE = (
    f"the name of a queue is made of small letters, digits and -, at most {LONGEST_NAME}, and begins with a letter"
)
_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{LONGEST_NAME - 1}}}")
# Names that Celery and kombu use in a broker themselves.
_OF_CELERY = frozenset({"celery", "celeryev", "unacked"})


def queue_fault(name: object) -> str | None:
    """Why no operation can have this queue, whatever is declared; None: it can."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{name!r} can't be a queue: {QUEUE_NAME_RULE}"
    if name == WEBHOOKS:
        return f"{name!r} is the queue of webhooks, whose workers run no operation; choose another name"
    if name in _OF_CELERY:
        return f"{name!r} is a name that Celery uses in the broker; choose another one"
    return None


def own_queue_fault(name: str) -> str | None:
    """Why no queue of one's own can have this name; None: it can."""
    if name in BUILT_IN:
        return f"{name!r} is built in, and settings say how many it has: tidegate settings lists them"
    return queue_fault(name)


def pools_of(own: Sequence[OwnQueue]) -> dict[str, Pool]:
    """The pool of each queue that operations can have: the built-in ones and these."""
    return {**BUILT_IN, **{queue.name: queue.pool for queue in own}}
