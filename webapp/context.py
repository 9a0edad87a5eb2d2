"""The application context of a request: the gateway and all that routes use, one of each per application."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from config.settings import Settings
from tidegate.access.authenticator import Doorkeeper
from tidegate.access.client_limits import ClientLimit
from tidegate.dispatch.lane_cache import Lanes
from tidegate.gateway import Jobs
from tidegate.metrics.counters import CountWriter
from tidegate.notify.notifier import Bell
from tidegate.notify.watcher import Lookout
from tidegate.operations.operation import Registry
from tidegate.stores import Store
from tidegate.webhooks.secrets import SecretStore
from webapp.serving.concurrency import Turns
from webapp.serving.request_body import BodyReader

FAILED = "tidegate.failed"
"""Key in the WSGI environment: the exception of a request that failed in the fast path; Flask raises it again."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The dependencies of the routes. `doorkeeper` None: authentication is off."""

    settings: Settings
    registry: Registry
    store: Store
    count_writer: CountWriter
    lanes: Lanes
    bell: Bell
    turns: Turns
    bodies: BodyReader
    lookout: Lookout
    jobs: Jobs
    secrets: SecretStore
    doorkeeper: Doorkeeper | None
    submit_limit: ClientLimit | None
    poll_limit: ClientLimit | None


def gateway() -> Gateway:
    """The gateway of the application that answers this request."""
    return cast("Gateway", current_app.extensions["tidegate"])
