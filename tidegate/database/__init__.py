"""How statements reach the database, and what happens when it is slow or away."""
