"""How the web server is started: granian, with a thread for each request that is worked on, held, or sends its body."""

import resource
from pathlib import Path

from config.settings import Settings

LARGEST_HEAD = 32 * 1024
"""Bytes that the names and values of a request's header fields may have together."""
BODY_READERS = 512
"""Requests whose bodies are on their way, at once in one web process."""
SPARE_THREADS = 32
"""Threads beyond all that requests can take at once: for refusals and for /health/live, which always have one."""

# Connections that nothing was asked on, or nothing any more. Each costs a few kilobytes; nobody keeps one for long.
_IDLE_CONNECTIONS = 8192
_FILES_BESIDE_CONNECTIONS = 256
_JSON_LOGS = Path(__file__).with_name("granian_json_logs.json")


def arguments(settings: Settings, *, stop_seconds: int) -> tuple[str, ...]:
    """Of the server's command. `stop_seconds`: how long it may finish its work; what it only holds ends at once."""
    return (
        *("--interface", "wsgi", "--no-ws"),
        *("--host", settings.host.strip("[]"), "--port", str(settings.port)),
        *("--workers", str(settings.web_workers), "--respawn-failed-workers"),
        *("--blocking-threads", str(requests_at_once(settings) + SPARE_THREADS)),
        # Else connections wait outside as soon as there are 1024 divided by the workers, whatever they do.
        *("--backpressure", str(_connections(settings))),
        # HTTP/2 without TLS is asked for by nobody but who wants to stop the server, and then it does stop. Before it
        # knows which of the two it is, the server waits for ever.
        *("--http", "1", "--http1-buffer-size", str(LARGEST_HEAD)),
        # Counts from the connection's beginning, and again from the end of each answer.
        *("--http1-header-read-timeout", str(1000 * settings.idle_seconds)),
        *("--workers-kill-timeout", str(stop_seconds), "--log-level", settings.log_level.lower()),
        *(("--log-config", str(_JSON_LOGS)) if settings.log_format == "json" else ()),
        "webapp.wsgi:app",
    )


def requests_at_once(settings: Settings) -> int:
    """How many requests one web process lets in: those worked on, those held, those whose bodies are on their way."""
    return settings.web_threads + settings.held_requests + BODY_READERS


def allow_files(settings: Settings) -> None:
    """Raises this process's limit of open files, which its children inherit, to what that takes, if it may."""
    needed = _wanted_connections(settings) + _FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _connections(settings: Settings) -> int:
    """As many as there may be files: one more than the limit would be taken from the database or the log."""
    wanted = _wanted_connections(settings)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(128, min(wanted, hard - _FILES_BESIDE_CONNECTIONS))


def _wanted_connections(settings: Settings) -> int:
    return requests_at_once(settings) + _IDLE_CONNECTIONS
