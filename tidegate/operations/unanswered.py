"""What a call of an HTTP operation means that got no answer: the exceptions of its request, and their outcome."""

import httpcore2

from tidegate.operations.outcome import ErrorCode, Failed, TryAgain

ERROR_MESSAGE_LENGTH = 500
_TOO_LATE = (httpcore2.TimeoutException,)
_NOT_VALID = (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol, ValueError, TypeError)
_NO_ANSWER = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError, OSError)
FAILURES = (*_TOO_LATE, *_NOT_VALID, *_NO_ANSWER)
"""What a request raises that is a failed attempt."""


def unanswered(error: Exception) -> Failed | TryAgain:
    """The outcome of a call that raised one of FAILURES."""
    if isinstance(error, _TOO_LATE):
        return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="the downstream did not answer in time")
    if isinstance(error, _NOT_VALID):
        # The exception's message shows the header or URL that can't be sent, and with it a secret.
        return Failed(
            code=ErrorCode.OPERATION_ERROR, message="the request can't be sent: a header or the URL is not valid"
        )
    if isinstance(error, httpcore2.ProxyError):
        return TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message=f"the proxy answered {error}"[:ERROR_MESSAGE_LENGTH])
    return TryAgain(
        code=ErrorCode.DOWNSTREAM_ERROR,
        message=f"the downstream can't be reached: {type(error).__name__}: {error}"[:ERROR_MESSAGE_LENGTH],
    )
