"""Whether many jobs in one call cost one call, and each of them keeps an outcome of its own."""
