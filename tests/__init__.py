"""Three tiers: unit (starts nothing), integration (real databases, broker, workers), e2e (the whole stack)."""
