"""The HTTP face: a Flask application over the gateway. What it promises is the HTTP contract (docs/api.md)."""
