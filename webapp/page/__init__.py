"""The live page for people, on the paths beside /v1: server-rendered HTML whose parts are updated by event streams.

No script is needed to read it or to act; `static/page.js` replaces the parts that change.
"""

from webapp.page import actions, views
from webapp.page.blueprint import routes

__all__ = ["actions", "routes", "views"]
