"""What a job is, its guarded moves, and how it is read, cancelled and erased."""
