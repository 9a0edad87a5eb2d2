"""The tests' own tools, and those of the benchmarks: what they see must be so."""
