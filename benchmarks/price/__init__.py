"""What a job costs in processor time, statements and buffers, beside another revision of Tidegate."""
