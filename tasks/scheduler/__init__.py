"""The scheduler process: gate (dispatcher), sweep (repairs), samples (queue lengths) and courier (webhooks)."""
