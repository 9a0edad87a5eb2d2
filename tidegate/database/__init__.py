"""Access to PostgreSQL and SQLite: connections, prepared and batched statements, retries, a circuit breaker."""
