"""The Celery face: the app, its one task, and the processes around it: workers and scheduler."""
