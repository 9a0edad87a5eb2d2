"""What a lane costs when there are many others, many schedulers, or a transaction that stays open for long."""
