"""Runs one attempt at a job in a worker: claim, slot, call, outcome; and the heartbeat that renews its lease."""
