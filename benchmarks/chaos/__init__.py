"""Is anything lost, doubled or left behind when everything may die? Faults from a seed, under steady load."""
