"""Tests of what stands in the room `jobs`."""
