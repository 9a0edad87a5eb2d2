"""How the web server is started: granian, with a thread for each request that is worked on or held."""

import resource
import sys
from pathlib import Path

from config.settings import Settings

# What granian takes by itself with one worker. They are connections, and idle ones count.
_CONNECTIONS_BESIDE_HELD = 1024
_FILES_BESIDE_CONNECTIONS = 256
_JSON_LOGS = Path(__file__).with_name("granian_json_logs.json")


def command(settings: Settings, *, stop_seconds: int) -> tuple[str, ...]:
    """The server's command line. `stop_seconds`: how long it may finish its work; what it only holds ends at once."""
    return (
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws"),
        *("--host", settings.host.strip("[]"), "--port", str(settings.port)),
        *("--workers", str(settings.web_workers), "--respawn-failed-workers"),
        *("--blocking-threads", str(settings.web_threads + settings.held_requests)),
        # Else connections wait outside as soon as there are 1024 divided by the workers, whatever they do.
        *("--backpressure", str(_connections(settings))),
        *("--workers-kill-timeout", str(stop_seconds), "--log-level", settings.log_level.lower()),
        *(("--log-config", str(_JSON_LOGS)) if settings.log_format == "json" else ()),
        "webapp.wsgi:app",
    )


def allow_files(settings: Settings) -> None:
    """Raises this process's limit of open files, which its children inherit, to what that takes, if it may."""
    needed = _connections(settings) + _FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _connections(settings: Settings) -> int:
    return settings.held_requests + _CONNECTIONS_BESIDE_HELD
