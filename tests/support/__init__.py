"""What the tests stand on: real servers and processes, and how to wait for them."""
