"""The worker process: Celery's consumer, and the runner, heartbeat and shutdown around it."""
