"""Authentication and roles of a request. While authentication is off everyone is the one client, and operator."""

from flask import g, request
from werkzeug.datastructures import Authorization

from tidegate.access.authenticator import Authenticator
from tidegate.access.keys import Caller, Role
from tidegate.access.tickets import Signer
from tidegate.database.schema import IMPLICIT_CLIENT
from tidegate.errors import Forbidden, Unauthorized
from webapp.context import context

_EVERYONE = Caller(client_id=IMPLICIT_CLIENT, role=Role.OPERATOR)


def caller() -> Caller:
    """The caller of this request, by its API key; raises Unauthorized without a good key."""
    if context().authenticator is None:
        return _EVERYONE
    if "caller" not in g:
        g.caller = caller_with(request.authorization, context().authenticator)
    known: Caller = g.caller
    return known


def operator() -> Caller:
    """As `caller`; raises Forbidden unless it is an operator."""
    known = caller()
    if known.role is not Role.OPERATOR:
        raise Forbidden("this needs an operator's key")
    return known


def monitor() -> Caller:
    """The caller of /metrics or /v1/scale: an operator, or a key for metrics; raises Unauthorized or Forbidden."""
    authenticator = context().authenticator
    if authenticator is None:
        return _EVERYONE
    known = _who_has(request.authorization, authenticator)
    if known.role is Role.CLIENT:
        raise Forbidden("this needs an operator's key, or one for metrics")
    return known


def caller_with_ticket(job_id: str) -> Caller:
    """As `caller`, but a ticket for this job in the query (`?ticket=`) does in place of a key."""
    authenticator, ticket = context().authenticator, request.args.get("ticket")
    if authenticator and ticket and request.authorization is None:
        g.caller = authenticator.holder(ticket, job_id)
        if g.caller is None:
            raise Unauthorized("the ticket is not for this job, or no longer good; read the job for a new one")
    return caller()


def signer() -> Signer | None:
    """The signer of tickets in the caller's name; None: no key was needed, or none was asked for."""
    known: Caller | None = g.get("caller")
    return known.signer if known else None


def caller_with(authorization: Authorization | None, authenticator: Authenticator | None) -> Caller:
    """The caller of this Authorization; raises Unauthorized without a good key, Forbidden for one for metrics alone."""
    if authenticator is None:
        return _EVERYONE
    known = _who_has(authorization, authenticator)
    if known.role is Role.METRICS:
        raise Forbidden("this key reads /metrics and /v1/scale and nothing else")
    return known


def _who_has(authorization: Authorization | None, authenticator: Authenticator) -> Caller:
    if authorization is None or authorization.type != "bearer" or not authorization.token:
        raise Unauthorized("send a key: Authorization: Bearer KEY")
    known = authenticator.caller(authorization.token)
    if known is None:
        raise Unauthorized("the key is unknown, expired or revoked")
    return known
