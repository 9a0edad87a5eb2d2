"""The tree of exceptions: every error that Tidegate raises on purpose.

    TidegateError
    ├── ConfigurationError        a setting, file or declaration that can't be used; stops the start and names the place
    ├── Refusal                   a request that is not taken; nothing was recorded
    │   ├── UnknownOperation
    │   ├── UnknownJob            also a job of another client: nobody learns that it exists
    │   ├── UnsupportedBody       the content type is not one that the operation takes
    │   ├── MalformedBody         not JSON at all
    │   ├── InvalidInput          JSON, but it breaks the operation's schema
    │   ├── InvalidHeader         a header of the contract that can't be read
    │   ├── NoPriorities          the partition keeps the order of submit
    │   ├── InvalidWebhook        a webhook that can't be sent to, or for which there is no secret
    │   ├── UnknownDelivery       also one of another client
    │   ├── DeliveryNotDue        its job has not ended
    │   ├── UnknownSecret         also one of another client
    │   ├── BodyTooLarge
    │   ├── BodyTooSlow           it came too slowly, or stopped coming
    │   ├── LengthRequired        a body without a Content-Length
    │   ├── FieldsTooLarge        a head of more than 32 KB
    │   ├── InvalidQuery          a query parameter that can't be read
    │   ├── IdempotencyConflict   the key was used for another request
    │   ├── JobErased             the key's job was deleted
    │   ├── JobNotFinal
    │   ├── JobAlreadyFinal
    │   ├── Unauthorized          no key, or none that is good
    │   ├── Forbidden             a good key that may not do this
    │   ├── UnknownHost           the request names another host than this gateway's
    │   ├── TooFast               this client submits or polls faster than its limit
    │   │   └── TooManyBodies     this client sends more bodies at once than it may
    │   ├── ShareUsed             this client has as much of something as one client may
    │   │   ├── BacklogFull       as many jobs of it, or of its partition, wait for a downstream as may
    │   │   └── TooManyPartitions jobs of as many of its partitions wait as may
    │   ├── NoRoom                as many requests are held as may be
    │   │   └── Overloaded        as many requests are under way as may be
    │   ├── UnknownDownstream
    │   ├── NotShared             the downstream has no partitions
    │   ├── CannotFinishInTime    the backlog ahead is longer than the job's timeout
    │   ├── TooSlow               a list that takes the database too long
    │   └── Unavailable           the database can't be reached, or has no room
    ├── DatabaseUnreachableError  the database can't be reached, or can't do it just now; another try may do
    │   └── DatabaseSessionError  a pooler before PostgreSQL does not pass our options on
    ├── DatabaseTooSlowError      a list, sample or count took longer than it may; a narrower one may do
    └── OperationError            raised by an operation: the attempt failed, another may succeed
        ├── PermanentError        raised by an operation: no further attempt will do better
        └── Retry                 raised by an operation: another attempt may succeed, not before a while
            └── Refused           raised by an operation: its downstream is full; all of it rests, no attempt is counted

AttemptStopped stands outside: it is the runner's way out of an operation. Two more are in operations/.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


class TidegateError(Exception):
    """Root of the tree; never raised itself."""


class ConfigurationError(TidegateError):
    """Settings, a file or a declaration can't be used. A fault is a line: the place, what is wrong, what would do."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Refusal(TidegateError):  # noqa: N818 - a refusal is an answer, and the glossary says so
    """Root of the refusals: the request is not taken, and nothing was recorded."""


class PassingRefusal(Refusal):
    """Root of those after which the same request may be taken `retry_after` later."""

    retry_after = timedelta(seconds=5)

    def __init__(self, message: str, retry_after: timedelta = retry_after) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownOperation(Refusal):
    """No operation has this name."""


class UnknownJob(Refusal):
    """No job of this client has this id."""


class UnsupportedBody(Refusal):
    """The operation does not take this content type."""


class MalformedBody(Refusal):
    """The body is not JSON."""


@dataclass(frozen=True)
class InputFault:
    """One thing that is wrong with an input; `pointer` is a JSON pointer (RFC 6901) to it."""

    pointer: str
    detail: str


MOST_FAULTS = 100  # so many are told of one input


class InvalidInput(Refusal):
    """The input breaks the operation's schema; `faults` has the first reasons, `count` says how many there are."""

    def __init__(self, faults: Sequence[InputFault], count: int | None = None) -> None:
        self.count = len(faults) if count is None else count
        self.faults = tuple(faults[:MOST_FAULTS])
        more = f"; these are the first {len(self.faults)}" if self.count > len(self.faults) else ""
        super().__init__(f"{self.count} fault(s) in the input{more}")


class InvalidHeader(Refusal):
    """A header that the API defines can't be read, or asks for what can't be."""


class NoPriorities(Refusal):
    """The job's partition keeps the order of submit: no job overtakes another."""


class InvalidWebhook(Refusal):
    """The Webhook-Url can't be sent to, or there is no secret to sign with."""


class UnknownDelivery(Refusal):
    """No job of this client with this id has a webhook."""


class DeliveryNotDue(Refusal):
    """The job has not ended; there is nothing to send yet."""


class UnknownSecret(Refusal):
    """No webhook secret of this client with this id signs."""


class BodyTooLarge(Refusal):
    """The body is larger than the operation takes."""


class BodyTooSlow(Refusal):
    """The body came too slowly: each 64 KB, or what is left, has 10 s."""


class LengthRequired(Refusal):
    """The body has no Content-Length; a chunked upload goes through a proxy that buffers it."""


class FieldsTooLarge(Refusal):
    """The request's line and header fields have more than 32 KB together."""


class InvalidQuery(Refusal):
    """A query parameter can't be read."""


class IdempotencyConflict(Refusal):
    """The idempotency key was used before, for another request."""


class JobErased(Refusal):
    """The job of this idempotency key was deleted by its client."""


class JobNotFinal(Refusal):
    """The request needs a final job; this one still goes on."""


class JobAlreadyFinal(Refusal):
    """The request needs a job that still goes on; this one is final."""


class Unauthorized(Refusal):
    """There is no key with the request, or none that is good."""


class Forbidden(Refusal):
    """The key is good and may not do this."""


class UnknownHost(Refusal):
    """Without keys the gateway answers to its own names and addresses only."""


class TooFast(PassingRefusal):
    """This client submits or polls faster than its limit."""


class TooManyBodies(TooFast):
    """This client sends more bodies at once than it may."""


class ShareUsed(PassingRefusal):
    """This client has as many held requests, or bytes of waiting inputs, as one client may."""


class BacklogFull(ShareUsed):
    """As many jobs of this client, or of this partition, wait for the downstream as may."""


class TooManyPartitions(ShareUsed):
    """Jobs of as many partitions of this client wait for the downstream as may; those of another are not taken."""


class NoRoom(Refusal):
    """This process holds as many requests as it may; poll instead, or try again after `Retry-After`."""

    retry_after = timedelta(seconds=5)


class Overloaded(NoRoom):
    """As many requests are under way in this process as it has threads for."""

    retry_after = timedelta(seconds=1)


class UnknownDownstream(Refusal):
    """No downstream has this name."""


class NotShared(Refusal):
    """The jobs of this downstream wait in one line, and not in partitions."""


class CannotFinishInTime(Refusal):
    """The job's expected finish lies past its deadline: better refused than accepted and let die."""

    def __init__(self, message: str, *, retry_after: timedelta, earliest_finish: datetime) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.earliest_finish = earliest_finish


class TooSlow(Refusal):
    """The database takes too long to answer this; a narrower filter may do."""

    retry_after = timedelta(seconds=30)


class Unavailable(PassingRefusal):
    """The database can't take the request now; `retry_after` says when to try again."""


class DatabaseUnreachableError(TidegateError):
    """The database can't be reached, or is read-only, full, shutting down: another try may do.

    `connection_lost`: the connection is of no more use, or there was none. `may_be_done`: what was asked may have been
    done all the same, its answer was lost. `was_in_the_way`: of another transaction; the same may do at once.
    """

    def __init__(
        self, message: str, *, connection_lost: bool = False, may_be_done: bool = False, was_in_the_way: bool = False
    ) -> None:
        super().__init__(message)
        self.connection_lost = connection_lost
        self.may_be_done = may_be_done
        self.was_in_the_way = was_in_the_way


class DatabaseSessionError(DatabaseUnreachableError):
    """A session of PostgreSQL can't have, or does not have, the options that it was asked for."""

    def __init__(self, what_happened: str) -> None:
        hint = "is a pooler such as PgBouncer before PostgreSQL? Then set TIDEGATE_DATABASE_OPTIONS=transaction"
        super().__init__(f"{what_happened}; {hint}", connection_lost=True)


class DatabaseTooSlowError(TidegateError):
    """A list, sample or count took longer than its own time limit, a narrower one may do. Others are answered."""


class OperationError(TidegateError):
    """For operations to raise: this attempt failed, another may succeed."""


class PermanentError(OperationError):
    """For operations to raise: the attempt failed and no other will do better."""


class Retry(OperationError):  # noqa: N818 - what is asked for, as in Celery
    """For operations to raise: the attempt failed and another may succeed, but not before `after` (seconds)."""

    def __init__(self, message: str = "", *, after: timedelta | float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Refused(Retry):
    """For operations to raise: the downstream is full. All of it rests for `after`, and no attempt is counted."""


class AttemptStopped(BaseException):
    """Raised inside an operation to end it when its attempt no longer counts: cancelled, expired, or taken over."""
