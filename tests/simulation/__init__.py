"""A simulated cluster, random moves on the stores, and generated requests."""
