"""What a lane costs when there are many others, many stewards, or a transaction that stays open for long."""
