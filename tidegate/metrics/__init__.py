"""What is counted, in memory and for the whole cluster."""
