"""Adapters of Celery to each kind of broker: settings for Redis, RabbitMQ and SQS, and kombu transports."""
