"""What Celery has to know about each kind of broker."""
