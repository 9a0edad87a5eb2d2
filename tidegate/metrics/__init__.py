"""Metrics: counters and histograms, counted in memory and summed over all processes in the database."""
