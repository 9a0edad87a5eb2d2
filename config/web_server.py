"""The command line and limits of the web server, granian: a thread for each request, held or being received too."""

import resource
from pathlib import Path

from config.settings import Settings

LARGEST_HEAD = 32 * 1024
"""Bytes that the names and values of a request's header fields may have together."""
BODY_READERS = 512
"""Requests whose bodies are on their way, at once in one web process."""
SPARE_THREADS = 32
"""Threads beyond all that requests can take at once: for refusals and for /health/live, which always have one."""

# Idle connections beside those in use. Each costs a few kilobytes, and is closed after TIDEGATE_IDLE_SECONDS.
_IDLE_CONNECTIONS = 8192
_FILES_BESIDE_CONNECTIONS = 256
_LOGS = {name: Path(__file__).with_name(f"granian_{name}_logs.json") for name in ("json", "text")}


def arguments(settings: Settings, *, stop_seconds: int) -> tuple[str, ...]:
    """The arguments of granian's command line. `stop_seconds`: how long requests may go on after a signal to stop.

    What it only holds ends at once.
    """
    return (
        *("--interface", "wsgi", "--no-ws"),
        *("--host", settings.host.strip("[]"), "--port", str(settings.port)),
        *("--workers", str(settings.web_workers), "--respawn-failed-workers"),
        *("--blocking-threads", str(requests_at_once(settings) + SPARE_THREADS)),
        # granian's default stops accepting at 1024 connections divided by the workers, idle ones included.
        *("--backpressure", str(_connections(settings))),
        # HTTP/1 only: nobody but an attacker asks for HTTP/2 without TLS, which can stop the server; and while the
        # server does not know which of the two it is, it waits without a time limit.
        *("--http", "1", "--http1-buffer-size", str(LARGEST_HEAD)),
        # Counted from the connection's beginning, and again from the end of each answer.
        *("--http1-header-read-timeout", str(1000 * settings.idle_seconds)),
        *("--workers-kill-timeout", str(stop_seconds), "--log-level", settings.log_level.lower()),
        *("--log-config", str(_LOGS[settings.log_format])),
        "webapp.wsgi:app",
    )


def requests_at_once(settings: Settings) -> int:
    """How many requests one web process accepts at once: worked on, held, or with bodies on their way."""
    return settings.web_threads + settings.held_requests + BODY_READERS


def allow_files(settings: Settings) -> None:
    """Raises this process's limit of open files, which its children inherit, for all connections, if it may."""
    needed = _wanted_connections(settings) + _FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _connections(settings: Settings) -> int:
    """The number of connections: one more than the limit of open files would be taken from the database or log."""
    wanted = _wanted_connections(settings)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(128, min(wanted, hard - _FILES_BESIDE_CONNECTIONS))


def _wanted_connections(settings: Settings) -> int:
    return requests_at_once(settings) + _IDLE_CONNECTIONS
