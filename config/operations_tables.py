"""pydantic models of the operations file's tables: every key with its type, default, bounds and meaning.

`docs/operations-file.md` is made from these declarations.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, Strict

from config.batch_tables import BatchTable
from config.partition_tables import SharedBy, SharedTable, sharing_of
from config.table_types import Table, Whole, check_rates
from tidegate.clock import MICROSECOND
from tidegate.operations.declaration import NAME, NAME_RULE
from tidegate.operations.json_pointer import parse_pointer
from tidegate.operations.limits import Limits
from tidegate.operations.operation import MEGABYTE
from tidegate.operations.queues import OwnQueue, Pool, Queue
from tidegate.operations.retry import RetryPolicy
from tidegate.operations.worker_range import WorkerRange
from tidegate.timeformat import Duration

_MAX_DELAY = timedelta(seconds=30)
# RFC 6749, 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} can't be a name: {NAME_RULE}")
    return name


def pointer_in(text: str) -> tuple[str, ...]:
    """The JSON pointer of a text json:/name."""
    return parse_pointer(text.removeprefix("json:"))


def _check_pointer(text: str) -> str:
    if not text.startswith("json:"):
        raise ValueError("write json:/name, a JSON pointer behind json:")
    pointer_in(text)
    return text


def _check_scope(scope: str) -> str:
    if scope and not _SCOPE.fullmatch(scope):
        raise ValueError('write words with one blank between them, of ASCII without " and \\')
    return scope


def _read_workers(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('write a number of workers, or a range such as "1-4"')
    return None if value == 0 else WorkerRange.parse(str(value))


Truth = Annotated[bool, Strict()]
Pointer = Annotated[str, AfterValidator(_check_pointer)]


class DownstreamTable(SharedTable):
    """`[downstreams.NAME]`: what one downstream can take, for the whole cluster."""

    rate: Annotated[tuple[str, ...], BeforeValidator(check_rates)] = Field(
        (),
        description="Calls per window: `50/s`, `600/m`, `10000/d`, `100/15m` or `0.5/s` (one in 2 s), of 31 days at "
        "most; one text, or a list of which all hold. Left out: no limit. `50/s`: never more than 50 calls begin in "
        'any second. `{ rate = "10000/d", window = "calendar", zone = "Europe/Berlin" }`: for a partner whose '
        "windows begin by the clock; they are a day long or go into one.",
    )
    burst: Whole = Field(
        1,
        ge=1,
        le=100_000,
        description="Calls that may start at once after a rest, and never more than a rate allows in a window.",
    )
    jitter: Annotated[Duration | None, Field(le=timedelta(seconds=10))] = Field(
        None,
        description="By how much the time that a call takes to reach the downstream varies. A call begins up to 20 ms "
        "after its slot, so a window is kept for 20 ms longer; and by this longer still.",
    )
    concurrency: Whole | None = Field(
        None, ge=1, le=100_000, description="Calls that may be open at once; left out: no limit."
    )
    breaker: Whole = Field(
        10,
        ge=0,
        le=1_000_000,
        description="Failed calls in a row that open the breaker; then the downstream gets single probes until one "
        "succeeds. 0: no breaker.",
    )
    full_on: frozenset[Annotated[Whole, Field(ge=400, le=599)]] = Field(
        frozenset(),
        description="Statuses beside 429 and 503 by which the downstream says that it is full, such as `[403]`: only "
        "in answers with `Retry-After` or a spent quota, else they mean what they always do.",
    )

    def declared(self, name: str, *, shared_by: SharedBy) -> Limits:
        """What the table declares; `shared_by`: whose jobs wait together where it does not say."""
        return Limits(
            name=name,
            rates=self.rate,
            burst=self.burst,
            concurrency=self.concurrency,
            breaker_after=self.breaker,
            jitter=(self.jitter or timedelta(0)) // MICROSECOND,
            sharing=sharing_of(self, default=shared_by),
        )


class QueueTable(Table):
    """`[queues.NAME]`: a queue of one's own, and the workers that serve it."""

    stand_ins: ClassVar[Mapping[str, object]] = {"pool": "threads"}

    pool: Literal["threads", "processes"] = Field(
        description="What its workers run attempts in. `threads`: for what waits, such as calls; none can be ended "
        "from outside. `processes`: for what computes, each attempt in a process of its own with a hard time limit."
    )
    concurrency: Whole = Field(1, ge=1, le=10_000, description="Attempts side by side in one worker.")
    workers: Annotated[InstanceOf[WorkerRange] | None, BeforeValidator(_read_workers)] = Field(
        WorkerRange(lowest=1, highest=1),
        description='Workers that `make run` starts: a number, or a range such as `"1-4"`, within which they are '
        "started while they are wanted. 0: they run elsewhere. The stack has its own.",
    )

    def declared(self, name: str) -> OwnQueue:
        """The queue of this name."""
        return OwnQueue(name=name, pool=Pool(self.pool), concurrency=self.concurrency, workers=self.workers)


class RetryTable(Table):
    """`retry = { … }` of an operation: when a failed call is tried again."""

    attempts: Whole = Field(5, ge=1, le=100, description="Calls at the most, the first one included.")
    delay: Duration = Field(
        timedelta(seconds=1),
        description="Longest wait before the second call. It doubles with each further one; the wait is drawn at "
        "random between nothing and it.",
    )
    max_delay: Duration | None = Field(
        None, description="What the doubled wait does not exceed; left out: `30s`, or `delay` where that is longer."
    )
    on: frozenset[Annotated[Whole, Field(ge=100, le=599)]] = Field(
        RetryPolicy.on,
        description="Statuses of the downstream worth another call. Connection errors and timeouts always are.",
    )

    def policy(self) -> RetryPolicy:
        """The policy that the table declares."""
        longest = self.max_delay or max(_MAX_DELAY, self.delay)
        return RetryPolicy(attempts=self.attempts, delay=self.delay, max_delay=longest, on=self.on)


class OAuthTable(Table):
    """`oauth = { … }` of an operation: the credentials of the access tokens that its calls carry."""

    token_url: str = Field(
        description="Where tokens are fetched, `http://` or `https://`. `${NAME}` may stand in it, and in the next two."
    )
    client_id: str = Field(description="The id that the token server knows Tidegate by.")
    client_secret: str = Field(description="The secret that goes with it: `${NAME}`, whose value only workers have.")
    scope: Annotated[str, AfterValidator(_check_scope)] = Field(
        "", description="What is asked for, in the words of the token server, with blanks between; left out: nothing."
    )
    auth: Literal["basic", "body"] = Field(
        "basic",
        description="Where id and secret stand in the request for a token: in the header `Authorization` (HTTP Basic), "
        "or in its body, for servers that do not read the header.",
    )


class OperationTable(Table):
    """`[operations.NAME]`: one kind of job, and the HTTP call that does it."""

    stand_ins: ClassVar[Mapping[str, object]] = {"url": "http://localhost/"}

    url: str = Field(
        description="Where the call goes, `http://` or `https://`. `${NAME}` may stand in it, and in path and query "
        "`{name}` for a member of the JSON input: a text, a number, true or false, percent-encoded. `{{` is a brace."
    )
    downstream: Annotated[str, AfterValidator(_check_name)] | None = Field(
        None, description="The downstream whose limits hold, as declared; left out: one of the operation's own name."
    )
    queue: str = Field(
        Queue.IO.value, description="The queue whose workers make the calls: `io`, or one of your own: `[queues.NAME]`."
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(
        "POST", description="Method of the call. `GET`, `HEAD` and `DELETE` send no body unless `body` is set."
    )
    body: Truth | Pointer | None = Field(
        None,
        description="`true`: the input is sent, byte for byte. `false`: nothing is. `json:/payload`: what stands there "
        "in the JSON input, as it is written. Left out: `true`, and `false` with `GET`, `HEAD` and `DELETE`.",
    )
    headers: dict[str, str] = Field({}, description="Headers of the call. `${NAME}` may stand in their values.")
    oauth: OAuthTable | None = Field(
        None,
        description="Calls carry `Authorization: Bearer` with a token that is fetched by OAuth 2 client credentials: "
        "the table below.",
    )
    pass_headers: list[str] = Field(
        [],
        description='Headers of the submit that go along, such as `["X-Customer"]`, 4 KB in all. They are part of what '
        "an `Idempotency-Key` stands for, and are erased with the input.",
    )
    input_schema: str | None = Field(
        None,
        description="A file beside this one with the JSON Schema (draft 2020-12) of the input, such as "
        '`"order.schema.json"`. What breaks it is refused at the submit with a 422 that names each fault.',
    )
    fail_when: Pointer | None = Field(
        None,
        description="`json:/error`: a successful answer with something there (not null, false, 0 or empty) is a final "
        "failure all the same.",
    )
    poll: Truth = Field(
        False,
        description="For a partner that answers 202 with a `Location` and does the work later: it is asked there, by "
        "`GET`, until it answers something else. More below.",
    )
    batch: BatchTable | None = Field(
        None, description="One call takes several jobs, which for their callers stay one each: the table below."
    )
    description: str = Field("", description="A sentence for callers; `GET /v1/operations` and `/docs` show it.")
    timeout: Duration = Field(
        timedelta(minutes=2), description="From submit to the deadline. A caller may shorten it with `Job-Timeout`."
    )
    attempt_timeout: Duration | None = Field(
        None,
        description="One call in total, from its connection to the last byte of its answer; left out: `10s`, or "
        "`timeout` where that is shorter.",
    )
    retry: RetryTable = Field(RetryTable(), description="When a failed call is tried again: the table below.")
    ca_file: str | None = Field(
        None, description="A file beside this one with certificates of authorities (PEM) that are trusted, too."
    )
    client_certificate: str | None = Field(
        None, description="A file beside this one with the certificate (PEM) by which the call says who makes it."
    )
    client_key: str | None = Field(
        None, description="Its key, not encrypted; left out: it stands in the file of `client_certificate`."
    )
    proxy: str | None = Field(
        None,
        description="The proxy through which the call goes, `http://proxy.internal:3128`, with `name:password@` before "
        "the host if it asks for them. `${NAME}` may stand in it.",
    )
    max_body: Whole = Field(
        20 * MEGABYTE, ge=0, description="Largest input in bytes. `TIDEGATE_MAX_BODY` bounds it as well."
    )
    admission: Truth = Field(True, description="Whether a job that could not make its deadline is refused at once.")
