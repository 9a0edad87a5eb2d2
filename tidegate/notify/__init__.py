"""Hints between processes over Redis pub/sub. Any of them may be lost: every receiver also polls the database."""
