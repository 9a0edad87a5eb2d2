"""Milliseconds from a submit to the start of its job in an idle system: each broker, told and not told of submits.

`python -m benchmarks.brokers --help`. Each stack is started and measured in turn; the ratio to the first counts.
"""

import argparse
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.pacing.arrivals import median, quantile
from benchmarks.pacing.stack import Shape, Stack
from tests.support import rabbitmq, run, sqlite
from tests.support.rabbitmq import RabbitMQ
from tests.support.sqs import Sqs
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

# Not in step with anybody's looks.
_PAUSES = (0.3, 0.9)
_OPERATIONS = """
[downstreams.free]
[operations.free]
url = "http://127.0.0.1:{port}/free/1"
"""


def main() -> None:
    """Prints a row for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--jobs", type=int, default=25, help="of each stack and round")
    given = options.parse_args()
    run.begin()
    try:
        with tempfile.TemporaryDirectory(dir=run.folder()) as folder, _servers(Path(folder)) as servers:
            taken: dict[str, list[float]] = defaultdict(list)
            for number in range(given.rounds):
                for name, settings in _kinds(servers).items():
                    place = Path(folder) / f"{name.replace(' ', '-').replace(',', '')}-{number}"
                    taken[name] += _measure(place, settings, given.jobs)
    finally:
        run.end()
    yardstick = median(next(iter(taken.values())))
    print("| broker | median ms | p95 ms | times the first |\n|---|---|---|---|")
    for name, values in taken.items():
        print(f"| {name} | {median(values):.0f} | {quantile(values, 0.95):.0f} | {median(values) / yardstick:.1f} |")


@contextmanager
def _servers(folder: Path) -> Iterator[Mapping[str, Any]]:
    made: dict[str, Any] = {"bell": Valkey(folder), "sqs": Sqs(folder)}
    if rabbitmq.find_server():
        made["rabbitmq"] = RabbitMQ(folder)
    try:
        for server in made.values():
            server.start()
        yield made
    finally:
        for server in made.values():
            server.stop()


def _kinds(servers: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    kinds: dict[str, Mapping[str, str]] = {"Valkey": {}}
    for name, title in (("rabbitmq", "RabbitMQ"), ("sqs", "moto's SQS")):
        if name in servers:
            broker = {"TIDEGATE_BROKER_URL": servers[name].url}
            kinds[f"{title}, a Valkey as the bell"] = {**broker, "TIDEGATE_BELL_URL": servers["bell"].url}
            kinds[f"{title}, no bell"] = broker
    return kinds


def _measure(folder: Path, settings: Mapping[str, str], jobs: int) -> list[float]:
    database = folder.with_suffix(".db")
    database.mkdir()
    shape = Shape(workers=1, settings=settings)
    stack = Stack(folder, sqlite.fresh_database(database), _OPERATIONS, shape)
    try:
        stack.start()
        return [_milliseconds(stack) for _ in range(jobs)]
    finally:
        stack.stop()


def _milliseconds(stack: Stack) -> float:
    time.sleep(random.uniform(*_PAUSES))  # noqa: S311 - no secret
    path = f"/v1/jobs/{stack.submit('free').document['id']}"
    wait_until(lambda: stack.request("GET", path).status == 200, description=f"{path} is done", timeout_seconds=30)
    document = stack.request("GET", path).document
    created, started = (datetime.fromisoformat(document[name]) for name in ("created_at", "started_at"))
    return 1000 * (started - created).total_seconds()


if __name__ == "__main__":
    main()
