"""What a job does, and how an attempt at it can end."""
