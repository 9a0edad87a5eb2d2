"""Partitions: how a downstream's calls are shared among those that wait for it, each with limits of its own."""
