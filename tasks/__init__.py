"""The Celery face: the app, its one task, and the steward."""
