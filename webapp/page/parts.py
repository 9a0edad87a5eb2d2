"""The HTML parts of the page that change, by name: the same in a whole page and in its event stream."""

import threading
from collections.abc import Mapping, Sequence

from jinja2 import Environment
from markupsafe import Markup

from webapp.page.board import Board, Look

Parts = Mapping[str, Markup]

SHOWN_RUNNING = 25
_OVERVIEW = ("pulse", "counts", "downstreams", "running", "recent")
_MOST_KEPT = 100


class OverviewParts:
    """Renders each look of the board once for all its viewers."""

    def __init__(self, board: Board, environment: Environment, *, has_keys: bool) -> None:
        self.board = board
        self._has_keys = has_keys
        self._environment = environment
        self._lock = threading.Lock()
        self._written: dict[str | None, tuple[Look, Parts]] = {}

    def now(self, client_id: str | None) -> Parts:
        """The overview's parts for this client, for all with None. Raises one of UNREACHABLE."""
        look = self.board.latest(client_id)
        with self._lock:
            known, parts = self._written.get(client_id, (None, {}))
            if known is not look:
                parts = self._write(look, is_operator=client_id is None)
                if len(self._written) >= _MOST_KEPT:
                    self._written.clear()
                self._written[client_id] = look, parts
        return parts

    def _write(self, look: Look, *, is_operator: bool) -> Parts:
        shown = look.running[:SHOWN_RUNNING]
        values = {"look": look, "shown": shown, "is_operator": is_operator, "has_keys": self._has_keys}
        values["root"] = "./"
        return written(self._environment, "overview", _OVERVIEW, values)


def written(environment: Environment, folder: str, names: Sequence[str], values: Mapping[str, object]) -> Parts:
    """Renders these templates of a folder."""
    return {
        name: Markup(environment.get_template(f"page/{folder}/{name}.html").render(values).strip())  # noqa: S704 - Jinja escaped it
        for name in names
    }
