"""Taking a job in, once: limits, the record, and its idempotency key."""
