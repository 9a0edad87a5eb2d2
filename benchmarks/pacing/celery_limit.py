"""For comparison: Celery's own rate_limit, same calls, same downstream, same number of workers.

As a module it is the Celery app of those workers; `run_baseline` publishes to them.
"""

import http.client
import os
import time
from pathlib import Path

from celery import Celery

from benchmarks.commands import await_worker, downstream_arguments, python_process, worker_arguments
from benchmarks.pacing.arrivals import doubles, most_within, read_log
from benchmarks.pacing.figures import Figures
from benchmarks.pacing.scenarios import LANE
from benchmarks.pacing.stack import WORKERS
from tests.support.processes import free_port
from tests.support.valkey import Valkey

_JOBS = 1000
_LONGEST_SECONDS = 40
TITLE = "Celery's rate_limit='50/s'"

app = Celery("baseline", broker=os.environ.get("BASELINE_BROKER"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, task_default_queue="io")


@app.task(rate_limit="50/s")
def call(job: int) -> None:
    """The call of an HTTP operation, without anything around it."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["BASELINE_PORT"]), timeout=5)
    connection.request("POST", f"/{LANE}/5", b"{}", {"Idempotency-Key": str(job)})
    connection.getresponse().read()
    connection.close()


def run_baseline(folder: Path) -> Figures:
    """Publishes 1,000 tasks and looks at the log after 40 s at most."""
    folder.mkdir(parents=True)
    broker, port, log = Valkey(folder), free_port(), folder / "arrivals.jsonl"
    environment = {"BASELINE_BROKER": broker.url, "BASELINE_PORT": str(port)}
    downstream = python_process(folder, "downstream", downstream_arguments(port, log), environment)
    workers = [
        python_process(folder, name, worker_arguments("benchmarks.pacing.celery_limit", name, "io"), environment)
        for name in (f"baseline-{number}" for number in range(WORKERS))
    ]
    try:
        broker.start()
        for process in (downstream, *workers):
            process.start()
        await_worker(workers)
        began = time.time()
        with Celery("publisher", broker=broker.url) as publisher:
            for number in range(_JOBS):
                publisher.send_task(call.name, (number,), queue="io", ignore_result=True)
        while time.time() < began + _LONGEST_SECONDS and len(log.read_text().splitlines()) < _JOBS:
            time.sleep(0.5)
    finally:
        for process in (*workers, downstream, broker.process):
            process.kill()
    calls = read_log(log)
    instants = [each.at for each in calls]
    seconds = time.time() - began
    return Figures(
        title=TITLE,
        calls=len(calls),
        seconds=seconds,
        utilisation=len(calls) / (50 * seconds),
        most={"1 s": most_within(1.0, instants)},
        most_open=max(each.open for each in calls),
        refused=0,
        doubles=doubles(calls),
        unfinished=_JOBS - len({each.job for each in calls}),
        misses=["for comparison only"],
        instants=[at - began for at in instants],
    )
