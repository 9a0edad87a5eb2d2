"""Does a downstream get exactly what it can take? Measured at the downstream, whatever dies meanwhile."""
