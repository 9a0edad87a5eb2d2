"""The HTTP face: `create_app()` and one module per resource. What it promises is the HTTP contract (README)."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, Response, current_app

from config.registry import load_registry
from config.settings import Settings
from tidegate.database import Database
from tidegate.jobs import Jobs
from tidegate.operations import Registry
from tidegate.store import Store
from tidegate.wake import bell_for

# One connection a blocking thread of the server, and one to spare.
_CONNECTIONS = 9

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
    jobs: Jobs


def create_app(settings: Settings, database: Database | None = None) -> Flask:
    """The WSGI application. Needs no database to start, only to answer."""
    from webapp import errors, health, jobs, operations  # noqa: PLC0415 - they import `gateway` from here

    registry = load_registry(settings)
    store = Store(database or Database(settings.database, pool_size=_CONNECTIONS))
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    app.extensions["tidegate"] = Gateway(
        settings=settings,
        registry=registry,
        store=store,
        jobs=Jobs(store.callers, registry, bell_for(settings.broker_url)),
    )
    errors.register(app)
    for module in (health, operations, jobs):
        app.register_blueprint(module.routes)
    app.after_request(_secure)
    return app


def gateway() -> Gateway:
    """The gateway of the application that answers this request."""
    return cast("Gateway", current_app.extensions["tidegate"])


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
