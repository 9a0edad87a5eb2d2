"""Calls a function of a list once for several jobs: its inputs, and an outcome for each of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter

from tidegate.errors import PermanentError, Refusal, Retry
from tidegate.operations.operation import Member
from tidegate.operations.outcome import BatchOutcome, ErrorCode, Failed, Outcome, TryAgain
from tidegate.operations.raised import meaning_of, unexpected
from tidegate.operations.result import outcome_of_returned
from tidegate.operations.typed_input import parse


def outcomes_of_list(
    call: Callable[[list[Any]], Any],
    members: Sequence[Member],
    *,
    params: TypeAdapter[Any],
    result: TypeAdapter[Any],
    name: str,
    batch_id: str,
) -> BatchOutcome | Failed:
    """Calls the function with all inputs, and gives each member its item of the list that it returns.

    An input that is no longer one of its type, since the function was changed, is left out and fails alone. An item
    may be an exception: it means for its job what it would mean raised.
    """
    given: list[Any] = []
    left_out: dict[str, TryAgain] = {}
    for member in members:
        try:
            given.append(parse(params, member.body.content))
        except Refusal as refusal:
            left_out[member.job_id] = unexpected(refusal)
    results: Sequence[Any] = []
    if given:
        try:
            returned = call(given)
        except (PermanentError, Retry) as error:
            return meaning_of(error, batch_id)
        found = list(returned) if isinstance(returned, list | tuple | Iterator) else None
        if found is None or len(found) != len(given):
            what = type(returned).__name__ if found is None else f"{len(found)} results"
            message = f"{name} returned {what} for {len(given)} inputs; a list with a result for each is asked for"
            return Failed(code=ErrorCode.OPERATION_ERROR, message=message)
        results = found
    rest = iter(results)
    return tuple(
        left_out.get(member.job_id) or _outcome_of_item(next(rest), member, result, name) for member in members
    )


def _outcome_of_item(item: Any, member: Member, result: TypeAdapter[Any], name: str) -> Outcome:
    match item:
        case PermanentError() | Retry():
            return meaning_of(item, member.job_id)
        case BaseException():
            return unexpected(item)
    return outcome_of_returned(item, result, name)
