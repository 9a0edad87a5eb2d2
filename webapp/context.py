"""The application context of a request: the gateway and all that routes use, one of each per application."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from config.settings import Settings
from tidegate.access.authenticator import Authenticator
from tidegate.access.client_limits import ClientLimit
from tidegate.dispatch.lane_cache import LaneCache
from tidegate.gateway import Gateway
from tidegate.metrics.counters import CountWriter
from tidegate.notify.notifier import Notifier
from tidegate.notify.watcher import Watcher
from tidegate.operations.registry import Registry
from tidegate.stores import Store
from tidegate.webhooks.secret_store import SecretStore
from webapp.serving.concurrency import ConcurrencyLimit
from webapp.serving.request_body import BodyReader


@dataclass(frozen=True, kw_only=True)
class Context:
    """The dependencies of the routes. `authenticator` None: authentication is off."""

    settings: Settings
    registry: Registry
    store: Store
    count_writer: CountWriter
    lanes: LaneCache
    notifier: Notifier
    turns: ConcurrencyLimit
    bodies: BodyReader
    watcher: Watcher
    jobs: Gateway
    secrets: SecretStore
    authenticator: Authenticator | None
    submit_limit: ClientLimit | None
    poll_limit: ClientLimit | None


def context() -> Context:
    """The gateway of the application that answers this request."""
    return cast("Context", current_app.extensions["tidegate"])
