"""The two kinds of database that a test may run on."""

import pytest

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)
BOTH = ["sqlite", POSTGRESQL]
