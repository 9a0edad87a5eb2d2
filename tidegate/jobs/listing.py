"""Filtered lists of jobs, newest first, page by page: each page reads a bounded number of rows, however few fit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
)

from tidegate.clock import EPOCH
from tidegate.database.connection import Database
from tidegate.database.schema import UNSUCCESSFUL, jobs
from tidegate.database.statement import required
from tidegate.database.time import database_now, statement_now
from tidegate.jobs.filter import Filter, Page
from tidegate.jobs.job import Job
from tidegate.jobs.transitions import JOB_COLUMNS, job_of
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.sharing import key_of
from tidegate.states import FINAL_STATES, OPEN_STATES, State

MOST_LOOKED_AT = 10_000
"""Rows, for one page; see the HTTP contract."""
MOST_LATE = 1_000
"""So many jobs past their deadline, and not more, are found by their deadlines while no sweep has expired them."""
LIMIT = timedelta(seconds=2)
"""How long a list may take: with rows that nobody has read for long each of them may be a read of the disk."""
CLOCKS_APART = timedelta(hours=1)
"""So far may the clock of a web server, which ids are made by, be from the database's, which `created_at` is by."""
_COLUMNS = {column.key: column for column in JOB_COLUMNS}
_UNSUCCESSFUL = FINAL_STATES - {State.SUCCEEDED}
_STATE_OF = {ErrorCode.DEADLINE_EXCEEDED: State.EXPIRED, ErrorCode.CANCELLED: State.CANCELLED}
"""The codes that a state has by itself; every other one stands in the row of a job that failed."""
_IS_LATE = and_(jobs.c.finished_at.is_(None), jobs.c.deadline <= statement_now())
_LAST = UUID(int=2**128 - 1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A way to rows: the index whose order they come in. `most`: of them are read for a page.

    `state`: that of the unsuccessful jobs of one state; None: that of all jobs. `is_late`: the jobs past their deadline
    that no sweep has expired, by their deadlines.
    """

    most: int
    state: State | None = None
    is_late: bool = False


def page(database: Database, wanted: Filter) -> Page:
    """Reads one page of the jobs that fit. Raises DatabaseTooSlowError."""
    parts = [_part(database, way, wanted) for way in _ways(database, wanted)]
    # A merge of sorted parts: nothing older than what every part has reached; it comes with the next page.
    reached = max((part.before_id for part in parts if part.before_id is not None), default=None)
    merged = {job.id: job for part in parts for job in part.jobs}
    found = sorted(merged.values(), key=lambda job: job.id, reverse=True)
    if reached is not None:
        found = [job for job in found if job.id >= reached]
    if len(found) > wanted.limit:
        found = found[: wanted.limit]
        reached = found[-1].id
    return Page(jobs=[_as_told(job) for job in found], before_id=reached)


def all_of(database: Database, wanted: Filter) -> Sequence[Job]:
    """Reads the jobs that fit, up to the filter's limit, page after page. Raises DatabaseTooSlowError."""
    found: list[Job] = []
    before_id = wanted.before_id
    while True:
        part = page(database, replace(wanted, before_id=before_id, limit=wanted.limit - len(found)))
        found += part.jobs
        if part.before_id is None or len(found) == wanted.limit:
            return found
        before_id = part.before_id


def number(database: Database, wanted: Filter, most: int) -> int:
    """Counts the jobs that fit, whatever the filter's limit; stops at `most`. Raises DatabaseTooSlowError."""
    found = 0
    for way in _ways(database, wanted):
        job = _looked_at(database, way, wanted).order_by(None).subquery("job").c
        some = select(job.id).where(_fits(job, wanted)).limit(most - found).subquery()
        found += required(database.fetch_one(select(func.count()).select_from(some), limit=LIMIT))[0]
    return found


def _ways(database: Database, wanted: Filter) -> Sequence[_Way]:
    """The ways that together lead to every job that can fit."""
    states = _states(wanted)
    if states is None or not _UNSUCCESSFUL.issuperset(states):
        return [_Way(most=MOST_LOOKED_AT)]
    are_late = State.EXPIRED in states
    left = MOST_LOOKED_AT - (MOST_LATE + 1 if are_late else 0)
    if are_late and _are_many_late(database):
        return [_Way(most=max(1, left))]
    # One for each state, so that each comes in the index's order.
    most = max(1, left // max(1, len(states) + are_late))
    ways = [_Way(most=most, state=state) for state in sorted(states)]
    # The late ones first: a sweep that expires them meanwhile moves them to where is looked next.
    return [_Way(most=most, is_late=True), *ways] if are_late else ways


def _states(wanted: Filter) -> Collection[State] | None:
    """The states that a job can be told in and fit, by the filter's states and its error code; None: any."""
    if wanted.error_code is None:
        return wanted.states or None
    state = _STATE_OF.get(wanted.error_code, State.FAILED)
    return [state] if not wanted.states or state in wanted.states else []


def _are_many_late(database: Database) -> bool:
    some = select(jobs.c.deadline).where(_IS_LATE).order_by(jobs.c.deadline).limit(MOST_LATE + 1).subquery()
    (found,) = database.fetch_in_order(select(func.count()).select_from(some), limit=LIMIT)
    return bool(found[0] > MOST_LATE)


def _part(database: Database, way: _Way, wanted: Filter) -> Page:
    """One page by one way; it has one job more than the limit when there are more.

    The last row that is read comes along, whether it fits or not: the next page begins behind it. All in one statement:
    between two of them rows may be erased, and the second would reach farther than the first.
    """
    read = _looked_at(database, way, wanted)
    job, is_last = _numbered_on_sqlite(read, way) if database.is_sqlite else _numbered(read, way, wanted)
    fits = _fits(job, wanted)
    columns = [job.get(name, expression) for name, expression in _COLUMNS.items()]
    statement = select(fits.label("fits"), is_last.label("is_last"), *columns).where(or_(fits, is_last))
    rows = database.fetch_in_order(statement.order_by(*_order(way, wanted, job)).limit(wanted.limit + 1), limit=LIMIT)
    found = [job_of({name: getattr(row, name) for name in _COLUMNS}) for row in rows if row.fits]
    has_more = len(rows) > wanted.limit or (rows and rows[-1].is_last)
    return Page(jobs=found, before_id=rows[-1].id if has_more else None)


def _numbered(read: Select[Any], way: _Way, wanted: Filter) -> tuple[Any, ColumnElement[bool]]:
    """As many of these rows as are read, and the condition that one is the last of them."""
    rows = read.limit(way.most).subquery("read")
    nth = func.row_number().over(order_by=_order(way, wanted, rows.c))
    job = select(rows, nth.label("nth")).subquery("job").c
    return job, job.nth == way.most


def _numbered_on_sqlite(read: Select[Any], way: _Way) -> tuple[Any, ColumnElement[bool]]:
    """As `_numbered`, for SQLite, which would number all rows before the first of them goes on."""
    job = read.limit(way.most).subquery("job").c
    last_id = read.with_only_columns(read.selected_columns.id).limit(1).offset(way.most - 1).scalar_subquery()
    return job, func.coalesce(job.id == last_id, false())


def _looked_at(database: Database, way: _Way, wanted: Filter) -> Select[Any]:
    """SELECT of the rows to filter, newest first, in the order of an index."""
    first_id, before_id = _id_bounds(wanted)
    if way.is_late:
        late = select(jobs).where(_IS_LATE).order_by(jobs.c.deadline).limit(MOST_LOOKED_AT).subquery("late")
        own = true() if wanted.client_id is None else late.c.client_id == wanted.client_id
        ids = (late.c.id >= first_id, late.c.id < before_id)
        return select(late).where(own, *ids).order_by(*_order(way, wanted, late.c))
    equal = {**_client_of(wanted), **_state_of(way)}
    first, before = (literal(each, jobs.c.id.type) for each in (first_id, before_id))
    if database.is_sqlite:
        within = [*(jobs.c[name] == value for name, value in equal.items()), jobs.c.id >= first, jobs.c.id < before]
    else:
        # Rows are compared, and not column by column: so only one index has the order. Else PostgreSQL may take what
        # looks nearer by its statistics, and read all jobs backwards to find those of one client or state.
        columns = tuple_(*(jobs.c[name] for name in equal), jobs.c.id)
        within = [columns >= tuple_(*equal.values(), first), columns < tuple_(*equal.values(), before)]
    is_of_index = text(UNSUCCESSFUL) if way.state else true()
    return select(jobs).where(is_of_index, *within).order_by(*_order(way, wanted, jobs.c))


def _order(way: _Way, wanted: Filter, of: Any) -> list[ColumnElement[Any]]:
    """The order of the way's index, newest first; its first columns are the same in all rows."""
    equal = () if way.is_late else (*_client_of(wanted), *_state_of(way))
    return [of[name].desc() for name in (*equal, "id")]


def _client_of(wanted: Filter) -> dict[str, ColumnElement[Any]]:
    return {} if wanted.client_id is None else {"client_id": literal(wanted.client_id, jobs.c.client_id.type)}


def _state_of(way: _Way) -> dict[str, ColumnElement[Any]]:
    # A literal: so a partial index is found to fit.
    return {"state": literal_column(f"'{way.state.value}'")} if way.state else {}


def _id_bounds(wanted: Filter) -> tuple[str, str]:
    """The first id that can fit, and one after the last: ids sort by the time at which a web server made them."""
    first = [str(UUID(int=0)), wanted.from_id]
    before = [str(_LAST), wanted.before_id]
    if wanted.created_after is not None:
        first.append(_id_at(wanted.created_after, -CLOCKS_APART))
    if wanted.created_before is not None:
        before.append(_id_at(wanted.created_before, CLOCKS_APART + _MILLISECOND))
    return max(each for each in first if each is not None), min(each for each in before if each is not None)


def _id_at(instant: datetime, later_by: timedelta) -> str:
    """The least id of a version that begins with its milliseconds since 1970 (RFC 9562), as version 7 does."""
    milliseconds = (instant - EPOCH + later_by) // _MILLISECOND
    return str(UUID(int=max(0, milliseconds) << 80))


def _fits(job: Any, wanted: Filter) -> ColumnElement[bool]:
    """Whether one of the rows that are looked at fits the filter."""
    conditions: list[ColumnElement[bool]] = [true()]
    states = _states(wanted)
    if states is not None:
        is_late = and_(job.state.in_(sorted(OPEN_STATES)), job.deadline <= database_now())
        conditions.append(
            case((is_late, State.EXPIRED.value), else_=job.state).in_(sorted(states)) if states else false()
        )
    if wanted.error_code is not None and wanted.error_code not in _STATE_OF:
        # No function for JSON: PostgreSQL's refuse a text with \u0000 in it. The code is the first member.
        beginning = f'{{"code": "{wanted.error_code}"'
        conditions.append(func.substr(job.error, 1, len(beginning)) == beginning)
    if wanted.operation is not None:
        conditions.append(job.operation == wanted.operation)
    if wanted.downstream is not None:
        conditions.append(job.downstream == wanted.downstream)
    if wanted.partition is not None:
        own = job.client_id.concat(key_of("", wanted.partition))
        conditions.append(job.partition.in_([own, key_of("", wanted.partition)]))
    if wanted.created_after is not None:
        conditions.append(job.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(job.created_at < wanted.created_before)
    if wanted.not_retried:
        conditions.append(~exists().where(jobs.c.retry_of == job.id))
    return and_(*conditions)


def _as_told(job: Job) -> Job:
    if job.state.is_final or job.deadline > job.seen_at:
        return job
    return replace(job, state=State.EXPIRED, finished_at=job.deadline)
