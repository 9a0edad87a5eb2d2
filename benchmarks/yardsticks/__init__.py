"""What people would use instead: plain Flask routes, hand-written jobs, bare Celery."""
