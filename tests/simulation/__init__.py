"""Random moves and generated requests, some thousand of each."""
