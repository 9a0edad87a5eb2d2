"""Authentication of the live page by a session cookie; while keys are off everyone is the one client and operator.

A session (`tidegate.access.session_store`) ends with its key, after 12 hours, when somebody signs out, or with the
browser. The API ignores the cookie, so nothing that a browser sends by itself changes anything there.
"""

from urllib.parse import urlsplit

from flask import g, request
from werkzeug.wrappers import Response as AnyResponse

from tidegate.access.keys import Caller, Role
from tidegate.errors import Forbidden, Unauthorized
from webapp.context import context
from webapp.http.auth import caller

COOKIE = "tidegate_session"
_LONGEST_KEY = 200


def visitor() -> Caller:
    """The caller of this request, by its session; raises Unauthorized where one is needed and none is good."""
    authenticator = context().authenticator
    if authenticator and "caller" not in g:
        known = authenticator.visitor(request.cookies.get(COOKIE, ""))
        if known is None:
            raise Unauthorized("sign in with an API key")
        g.caller = known
    return caller()


def operating() -> Caller:
    """As `visitor`; raises Forbidden unless it is an operator."""
    known = visitor()
    if known.role is not Role.OPERATOR:
        raise Forbidden("this needs an operator's key")
    return known


def begin(response: AnyResponse, key: str) -> bool:
    """Begins a session and sets its cookie; False: the key is not good."""
    authenticator = context().authenticator
    session = authenticator.begin_session(key) if authenticator and 0 < len(key) <= _LONGEST_KEY else None
    if session is None:
        return False
    # No Max-Age: the browser drops it when it closes, and the database ends the session after 12 hours.
    response.set_cookie(COOKIE, session, path=_path(), secure=_is_secure(), httponly=True, samesite="Strict")
    return True


def end(response: AnyResponse) -> None:
    """Ends the session of this request's cookie, and deletes the cookie."""
    authenticator, session = context().authenticator, request.cookies.get(COOKIE, "")
    if authenticator and session:
        authenticator.end_session(session)
    response.delete_cookie(COOKIE, path=_path(), secure=_is_secure(), httponly=True, samesite="Strict")


def check_origin() -> None:
    """CSRF check: raises Forbidden unless one of our own pages sent this form, as browsers say of every POST."""
    site, sender = request.headers.get("Sec-Fetch-Site"), urlsplit(request.headers.get("Origin", "")).netloc
    ours = {request.host, urlsplit(context().settings.public_url).netloc}
    is_ours = site == "same-origin" if site else bool(sender) and sender in ours
    if not is_ours:
        raise Forbidden("only this page's own forms may do that; from elsewhere use the API")


def comes_from_elsewhere() -> bool:
    """Whether a link on another site led here: then the browser did not send the cookie (SameSite=Strict)."""
    return request.headers.get("Sec-Fetch-Site") == "cross-site" and COOKIE not in request.cookies


def _path() -> str:
    public = context().settings.public_url
    return (urlsplit(public).path if public else request.script_root) or "/"


def _is_secure() -> bool:
    return request.is_secure or context().settings.public_url.startswith("https:")
