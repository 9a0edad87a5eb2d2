"""Webhooks: HTTP calls that tell a client's own server that its job has ended."""
