"""Table of access tokens that the whole cluster uses."""

from sqlalchemy import CheckConstraint, Column, LargeBinary, Table

from tidegate.database.schema.metadata import metadata
from tidegate.database.time import Instant

oauth_tokens = Table(
    "oauth_tokens",
    metadata,
    Column("name", LargeBinary(32), primary_key=True),  # a hash of token URL, client id and scope
    Column("token", LargeBinary),  # sealed by a key that is not in the database; null: none, or it was thrown away
    Column("fetched_at", Instant),  # also what a token is known by
    Column("expires_at", Instant),
    Column("lease_until", Instant),  # until then one process fetches the next, and the others wait for it
    CheckConstraint("token IS NULL OR (fetched_at IS NOT NULL AND expires_at IS NOT NULL)", name="life"),
)
