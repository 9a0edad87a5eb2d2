"""The scheduler: the process that runs gate, sweep, samples and courier."""
