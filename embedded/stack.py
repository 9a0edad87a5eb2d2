"""The processes of the embedded default: broker, web server, sample downstream, scheduler, workers."""

import http.client
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from config.registry import own_queues
from config.settings import Settings
from embedded import broker
from embedded.environments import Environments
from embedded.processes import Event, Program
from embedded.worker_set import WorkerSet
from tasks.health_file import health_file_path
from tasks.worker.command import worker_command
from tidegate import clock
from tidegate.errors import ConfigurationError
from tidegate.operations.queues import WEBHOOKS, Pool
from tidegate.operations.worker_range import WorkerRange

# A worker hands back what still runs when TIDEGATE_GRACE_SECONDS are over, and needs a moment for it; the others have
# nothing to finish. With the default, workers, web and broker take at most 6.5 + 1.5 + 1.5 s: less than 10.
QUICK = timedelta(seconds=1.5)

Group = tuple[Program | WorkerSet, ...]


def programs(settings: Settings) -> tuple[Group, ...]:
    """The groups of programs in the order of their start. They stop in reverse: work ends before what it needs."""
    decided = _decided(settings)
    first: Group = ()
    if settings.broker_url:
        environments = Environments.of(settings, decided)
    else:
        place = broker.free_place()
        environments = Environments.of(settings, {**decided, "TIDEGATE_BROKER_URL": place.url})
        first = (broker.broker(broker.find_server(), place, settings.data.resolve(), environments.bare(), QUICK),)
    sample = (_sample(settings, environments.bare()),) if settings.sample_port else ()
    return (first, (_web(settings, environments.of_web()), *sample), _workers(settings, environments))


def check_ports(settings: Settings) -> None:
    """Raises ConfigurationError when a port that we want to listen on is taken."""
    _check_port(settings.host, settings.port, "TIDEGATE_PORT")
    if settings.sample_port:
        _check_port("127.0.0.1", settings.sample_port, "TIDEGATE_SAMPLE_PORT")


def address(settings: Settings) -> str:
    """The web server's URL for a browser on this machine."""
    host = settings.host.strip("[]")
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _decided(settings: Settings) -> dict[str, str]:
    """Variables that are set for every child, whatever our own environment says."""
    return {
        "TIDEGATE_DATA": str(settings.data.resolve()),
        "TIDEGATE_DATABASE_URL": settings.database,
        "TIDEGATE_DATABASE_URL_FILE": "",  # its content is in the line above, and both together would be refused
        "TIDEGATE_SAMPLE_PORT": str(settings.sample_port),
        "PYTHONUNBUFFERED": "1",
    }


def _web(settings: Settings, environment: Mapping[str, str]) -> Program:
    host = settings.host.strip("[]")
    return Program(
        name="web",
        # Not the server itself: this checks the configuration, which may have become bad before a later restart.
        arguments=(sys.executable, "-m", "webapp", "--stop-seconds", "1"),
        environment=environment,
        grace=QUICK,
        is_ready=lambda: _health(host, settings.port) is not None,
    )


def _sample(settings: Settings, environment: Mapping[str, str]) -> Program:
    return Program(
        name="sample",
        arguments=(
            *(sys.executable, "-m", "demo.downstream", "--port", str(settings.sample_port)),
            *("--rate", "20", "--concurrency", "4"),
            *("--log", str(settings.data.resolve() / "sample-arrivals.jsonl")),
        ),
        environment=environment,
        grace=QUICK,
        read_line=_sample_line,
    )


def _sample_line(text: str) -> str | Event:
    return Event(logging.INFO, text) if text.startswith("listening on ") else text


def _worker_line(text: str) -> str | Event:
    """Celery prints how it stops past its log."""
    return Event(logging.INFO, text) if re.fullmatch(r"worker: \w+ shutdown \(MainProcess\)", text) else text


def _workers(settings: Settings, environments: Environments) -> Group:
    grace = timedelta(seconds=settings.grace_seconds) + QUICK
    scheduler = Program(
        name="scheduler",
        arguments=(sys.executable, "-m", "tasks.scheduler"),
        environment=environments.of_scheduler(),
        grace=grace,
        is_ready=_beats_since_now(health_file_path(settings.run_folder.resolve(), "scheduler")),
    )

    def worker(name: str, queue: str, pool: Pool, concurrency: int, environment: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            arguments=worker_command(
                f"{name}@tidegate", queue, pool, concurrency=concurrency, log_level=settings.log_level
            ),
            environment=environment,
            grace=grace,
            read_line=_worker_line,
            is_ready=lambda: queue in (_health(settings.host.strip("[]"), settings.port) or {}).get("workers", {}),
        )

    def workers(
        queue: str, number: WorkerRange, pool: Pool, concurrency: int, environment: Mapping[str, str]
    ) -> WorkerSet:
        return WorkerSet(
            queue=queue, range=number, program=lambda name: worker(name, queue, pool, concurrency, environment)
        )

    everything = environments.of_operations()
    return (
        scheduler,
        workers("io", settings.io_workers, Pool.THREADS, settings.io_concurrency, everything),
        workers("cpu", settings.cpu_workers, Pool.PROCESSES, settings.cpu_concurrency, everything),
        *(
            workers(own.name, own.workers, own.pool, own.concurrency, everything)
            for own in own_queues(settings)
            if own.workers
        ),
        workers(
            WEBHOOKS, settings.webhook_workers, Pool.THREADS, settings.webhook_concurrency, environments.of_webhooks()
        ),
    )


def _beats_since_now(pulse: Path) -> Callable[[], bool]:
    """A readiness probe: whether the health file was touched after this call. An old one may be a former process's."""
    began = clock.now().timestamp()

    def beats() -> bool:
        try:
            return pulse.stat().st_mtime >= began
        except OSError:
            return False

    return beats


def _health(host: str, port: int) -> dict[str, Any] | None:
    """The JSON of /health/ready, with the queues that have workers; None while it does not answer 200."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _check_port(host: str, port: int, setting: str) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the servers do it: a port whose last connections are still in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {host} can't be used ({error.strerror}); set {setting} to another one"
        ) from None
