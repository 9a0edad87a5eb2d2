"""Is anything lost, doubled or left behind when everything may die or stand still? Faults from a seed, under load."""
