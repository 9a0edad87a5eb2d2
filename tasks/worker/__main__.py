"""`python -m tasks.worker QUEUE`: becomes a worker of a queue of one's own, as the operations file declares it."""

import argparse
import os
import sys

from config.registry import own_queues
from config.settings import settings
from tasks.worker.command import worker_command
from tidegate.errors import ConfigurationError
from tidegate.operations.declaration import shown


def main() -> int:
    """Replaces this process by the worker; returns 2 when a setting is bad or the queue is not declared."""
    parser = argparse.ArgumentParser(prog="python -m tasks.worker", description="Starts a worker of one queue.")
    parser.add_argument("queue", help="a queue of one's own: [queues.NAME] of the operations file")
    queue = parser.parse_args().queue
    try:
        command = _command(queue)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    return os.execv(command[0], command)  # noqa: S606 - of what is configured


def _command(queue: str) -> tuple[str, ...]:
    current = settings()
    for own in own_queues(current):
        if own.name == queue:
            # %h is Celery's word for the name of this machine or container.
            name, level = f"{queue}@%h", current.log_level
            return worker_command(name, queue, own.pool, concurrency=own.concurrency, log_level=level)
    file = shown(current.operations_file)
    raise ConfigurationError(f"{file} declares no queue {queue!r}; write [queues.{queue}] into it")


if __name__ == "__main__":
    sys.exit(main())
