"""The words for an attempt's outcome in metrics and in logs. Pure."""

from tidegate.operations.outcome import Failed, HandedBack, Outcome, Polls, Refused, Split, Succeeded, TryAgain
from tidegate.operations.typed_input import says_json

_WORDS: dict[type[Outcome | Split], str] = {
    Succeeded: "succeeded",
    Failed: "failed",
    TryAgain: "error",
    Refused: "refused",
    Polls: "polls",
    HandedBack: "handed_back",
    Split: "error",
}


def word_of(outcome: Outcome | Split) -> str:
    """How the metrics call it."""
    return _WORDS[type(outcome)]


def told(outcome: Outcome) -> str:
    """How the log tells it, after the attempt and the operation."""
    match outcome:
        case Succeeded():
            is_broken = says_json(outcome.content_type) and not outcome.is_json
            return f"succeeded ({len(outcome.content)} bytes{', typed JSON and none' if is_broken else ''})"
        case Failed() | TryAgain():
            return f"failed: {outcome.message}"
        case Refused():
            return f"was refused: {outcome.message}"
        case Polls():
            return "was accepted by its downstream and is polled"
        case HandedBack():
            return f"handed back: {outcome.reason}"
