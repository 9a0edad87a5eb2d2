"""Batches on real workers: a Python and an HTTP operation, called, cancelled, stopped and killed."""
