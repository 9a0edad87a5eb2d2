"""Repairs that no message triggers (the sweep), and statistics of the whole cluster for metrics and live page."""
