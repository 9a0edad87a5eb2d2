"""The live page: for people, on the paths beside /v1. Made of the same parts when it is asked for and when they change.

No script is needed to read it or to act; `static/page.js` puts in the parts that change.
"""

from webapp.page import actions, views
from webapp.page.blueprint import routes

__all__ = ["actions", "routes", "views"]
