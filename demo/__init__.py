"""The sample downstream, and the demo: one burst straight at it and the same through the gateway."""
