"""One attempt at a job in a worker, and the heartbeat that says the worker lives."""
