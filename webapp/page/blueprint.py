"""The Flask blueprint of the live page, with its error pages, template filters, and one overview for all viewers."""

from typing import Any, cast

from flask import Blueprint, current_app

from tidegate.operations.outcome import ErrorCode
from tidegate.timeformat import instant
from webapp.page import answers, preview, texts
from webapp.page.board import Board
from webapp.page.parts import OverviewParts

routes = Blueprint("page", __name__)
answers.register(routes)
_FILTERS = (
    *(texts.duration, texts.number, texts.plain_number, texts.percent, texts.size, texts.utc_time, texts.state_of),
    *(preview.visible, instant),
)
for _filter in _FILTERS:
    routes.add_app_template_filter(_filter)

_EXTENSION = "tidegate.page"


@routes.record_once
def _set_up(setup: Any) -> None:
    known = setup.app.extensions["tidegate"]
    board = Board(known.store, known.lanes, known.jobs, known.registry)
    setup.app.extensions[_EXTENSION] = OverviewParts(
        board, setup.app.jinja_env, has_keys=known.authenticator is not None
    )
    setup.app.jinja_env.globals.update(TICKS=texts.TICKS, WAITS=texts.WAITS, WAITED=texts.WAITED, STATES=texts.STATES)
    setup.app.jinja_env.globals.update(ERROR_CODES=[code.value for code in ErrorCode])


def overview_parts() -> OverviewParts:
    """The OverviewParts of the application that answers this request."""
    return cast("OverviewParts", current_app.extensions[_EXTENSION])
