"""The HTTP face: `create_app()` and one module per resource. What it promises is the HTTP contract (README)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadRequest

from config.registry import load_registry
from config.settings import Settings
from tidegate.database import Database
from tidegate.jobs import Jobs
from tidegate.lanes import Lanes
from tidegate.operations import Registry
from tidegate.store import Store
from tidegate.wake import Bell, bell_for

# One connection a blocking thread of the server, and one to spare.
_CONNECTIONS = 9
# A caller must have a 503 within 3 s of a database that says nothing.
_PATIENCE = timedelta(seconds=2)

# A result is somebody's bytes: a browser must neither guess its type nor run anything in it.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What the routes work with."""

    settings: Settings
    registry: Registry
    store: Store
    lanes: Lanes
    bell: Bell
    jobs: Jobs


def create_app(settings: Settings, database: Database | None = None) -> Flask:
    """The WSGI application. Needs no database to start, only to answer."""
    from webapp import downstreams, errors, health, jobs, operations  # noqa: PLC0415 - they import `gateway` from here

    registry = load_registry(settings)
    store = Store(database or Database(settings.database, pool_size=_CONNECTIONS, patience=_PATIENCE))
    lanes, bell = Lanes(store), bell_for(settings.broker_url)
    app = Flask(__name__, static_folder=None)
    # One more than is taken: Werkzeug cuts a chunked body off there without a word, and the one byte tells.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.extensions["tidegate"] = Gateway(
        settings=settings,
        registry=registry,
        store=store,
        lanes=lanes,
        bell=bell,
        jobs=Jobs(store.callers, registry, lanes, bell),
    )
    errors.register(app)
    for module in (health, operations, downstreams, jobs):
        app.register_blueprint(module.routes)
    app.before_request(_check_host)
    app.after_request(_secure)
    return app


def gateway() -> Gateway:
    """The gateway of the application that answers this request."""
    return cast("Gateway", current_app.extensions["tidegate"])


def _check_host() -> None:
    """Links are absolute: without a public URL the request has to name a host (RFC 9112, 3.2). Probes need none."""
    if request.blueprint != "health" and not gateway().settings.public_url and not request.host:
        raise BadRequest("the Host header is missing or names no host")


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
