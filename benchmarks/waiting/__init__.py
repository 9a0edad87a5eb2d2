"""What held requests cost, and how fast they are told."""
