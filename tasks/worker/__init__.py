"""A worker process: what it has beside Celery, and how it reads its queue."""
