"""The gateway itself. Knows neither Flask nor Celery nor the environment; its callers pass settings in."""
