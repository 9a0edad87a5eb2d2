"""WSGI middleware and process handling around Flask: guards, a fast path, request bodies, watchdog, shutdown."""
