"""Hints between processes over Redis pub/sub. Any of them may be lost: everybody looks by itself as well."""
