"""Authentication and rate limits of clients: API keys, tickets, sessions of the live page."""
