"""Who is asking. While authentication is off everyone is the one implicit client."""

from tidegate.models import IMPLICIT_CLIENT


def client_id() -> str:
    """Id of the client that makes this request."""
    return IMPLICIT_CLIENT
