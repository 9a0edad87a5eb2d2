"""What no message will put right, and what the rows say of the whole cluster."""
