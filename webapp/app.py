"""The Flask application factory: `create_app()`."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache

from flask import Flask, Response, request
from flask_cors import CORS
from werkzeug.exceptions import BadRequest

from config import web_server
from config.client_shares import shares
from config.database import open_database
from config.origins import ANY
from config.registry import load_registry
from config.settings import Settings
from config.signing_keys import signing_keys
from config.webhook_keyring import load_keyring
from tidegate.access.authenticator import Authenticator
from tidegate.access.client_limits import ClientLimit
from tidegate.access.key_store import KeyStore
from tidegate.access.session_store import SessionStore
from tidegate.database.connection import Database
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.dispatch.partitions.cache import PartitionCache
from tidegate.gateway import Gateway
from tidegate.intake.admission import Admission, Disk
from tidegate.intake.input_bytes import InputByteStore
from tidegate.intake.waiting_bytes import WaitingBytes
from tidegate.metrics.counters import CountWriter
from tidegate.notify.notifier import notifier_for
from tidegate.notify.watcher import Watcher
from tidegate.stores import Store
from tidegate.webhooks.checks import WebhookChecks
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.secret_store import SecretStore
from webapp import page
from webapp.context import Context, context
from webapp.http import error_handlers, log_lines, rate_limits
from webapp.http.answers import SECURITY_HEADERS
from webapp.http.bodies import bound_body
from webapp.resources import (
    bulk,
    deliveries,
    docs,
    downstreams,
    events,
    health,
    jobs,
    mass_actions,
    metrics,
    operations,
    partitions,
    scale,
    webhook_secrets,
)
from webapp.serving import fast_path, foreign_sites, proxies, request_body, request_guard
from webapp.serving.concurrency import ConcurrencyLimit
from webapp.serving.request_body import BodyReader

# Pooled connections: fewer than threads, most of which read a body or wait. Twice as many more are opened if needed.
_CONNECTIONS = 10
# How many bodies of the largest size one client may send at once; each is in memory twice for a moment.
_LARGE_BODIES = 4
# A caller must have a 503 within 3 s of a database that says nothing.
_PATIENCE = timedelta(seconds=2)

EXPOSED_HEADERS = (
    "Location",
    "Retry-After",
    "ETag",
    "Preference-Applied",
    "Tidegate-Job-State",
    "RateLimit",
    "RateLimit-Policy",
    "Deprecation",
    "Link",
)


def create_app(settings: Settings, database: Database | None = None) -> Flask:
    """Makes the WSGI application with all its middleware. Needs no database to start, only to answer."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a wrong path is a 404, never a redirect
    turns = ConcurrencyLimit(app.wsgi_app, settings.web_threads)
    app.wsgi_app = turns  # type: ignore[method-assign]
    bodies = request_body.BodyReader(_LARGE_BODIES * settings.max_body)
    app.extensions["tidegate"] = _gateway(settings, turns, bodies, database)
    error_handlers.register(app)
    for module in (
        docs,
        page,
        health,
        metrics,
        scale,
        operations,
        partitions,
        downstreams,
        bulk,
        mass_actions,
        jobs,
        events,
        deliveries,
        webhook_secrets,
    ):
        app.register_blueprint(module.routes)
    log_lines.register(app)
    app.before_request(_check_host)
    app.before_request(bound_body)
    app.after_request(rate_limits.add_headers)
    app.after_request(_secure)
    if settings.cors_origins:
        CORS(app, origins=_exactly(settings.cors_origins), expose_headers=list(EXPOSED_HEADERS), max_age=600)
    app.wsgi_app = fast_path.FastPath(app.wsgi_app, app.extensions["tidegate"])  # type: ignore[method-assign]
    if settings.auth == "off":
        own = app.extensions["tidegate"].store.counts
        app.wsgi_app = foreign_sites.CrossSiteGuard(app.wsgi_app, settings, own)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        app.wsgi_app = proxies.TrustedProxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    most, counts = web_server.requests_at_once(settings), app.extensions["tidegate"].store.counts
    app.wsgi_app = request_guard.RequestGuard(app.wsgi_app, most, counts)  # type: ignore[method-assign]
    return app


def _gateway(settings: Settings, turns: ConcurrencyLimit, bodies: BodyReader, database: Database | None) -> Context:
    database = database or open_database(settings, pool_size=_CONNECTIONS, patience=_PATIENCE)
    registry = load_registry(settings)
    store = Store(database, retention=settings.retention)
    store.counted.know_operations(registry.downstream_of)
    lanes, notifier, share = (
        LaneCache(store, registry.downstreams, registry.fills),
        notifier_for(settings.bell),
        shares(settings),
    )
    secrets = SecretStore(database, cache(lambda: load_keyring(settings)))
    disk = Disk(settings.data) if database.is_sqlite else None
    admission = Admission(
        lanes=lanes,
        partitions=PartitionCache(store, registry.downstreams),
        max_backlog=settings.max_backlog,
        disk=disk,
    )
    return Context(
        settings=settings,
        registry=registry,
        store=store,
        count_writer=CountWriter(store.counts, store.counted.add),
        lanes=lanes,
        notifier=notifier,
        jobs=Gateway(
            store.callers,
            store.submissions,
            registry,
            lanes,
            admission,
            notifier,
            store.deliveries,
            WebhookChecks(Egress(settings.webhook_networks), secrets),
            _waiting_bytes(database, lanes, share.waiting_bytes, disk),
        ),
        secrets=secrets,
        turns=turns,
        bodies=bodies,
        watcher=Watcher(store.callers, settings.bell, most=settings.held_requests, most_each=share.held),
        authenticator=_authenticator(settings, database) if settings.auth == "keys" else None,
        submit_limit=ClientLimit(share.submits) if share.submits else None,
        poll_limit=ClientLimit(share.reads) if share.reads else None,
    )


def _waiting_bytes(database: Database, lanes: LaneCache, most: int | None, disk: Disk | None) -> WaitingBytes | None:
    if most is None:
        return None
    inputs = InputByteStore(database)

    def count() -> Mapping[str, int]:
        return inputs.by_client(lanes.backlog())

    return WaitingBytes(count, most, disk.left) if disk else WaitingBytes(count, most)


def _authenticator(settings: Settings, database: Database) -> Authenticator:
    return Authenticator(KeyStore(database), SessionStore(database), signing_keys(settings))


def _exactly(origins: Sequence[str]) -> "list[str | re.Pattern[str]]":
    """Origins as escaped patterns: Flask-CORS takes a text with special characters, such as [ ], for a regex."""
    return [origin if origin == ANY else re.compile(re.escape(origin) + r"\Z") for origin in origins]


def _check_host() -> None:
    """Refuses a request without a Host when no public URL is set: links are absolute. Health probes need none."""
    if request.blueprint != "health" and not context().settings.public_url and not request.host:
        raise BadRequest("the Host header is missing or names no host")


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
