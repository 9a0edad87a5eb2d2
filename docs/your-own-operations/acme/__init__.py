"""Operations of our own, which Tidegate runs."""
