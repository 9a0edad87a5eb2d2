"""Who may ask, and how often: keys, tickets, sessions, limits of a client."""
