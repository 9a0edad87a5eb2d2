"""Accepting a job exactly once: admission control, the INSERT, and its idempotency key."""
