"""The Celery face: the app, its two tasks, and the processes around it: workers and scheduler."""
