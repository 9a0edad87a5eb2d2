"""GET routes of the live page: the overview, a job, its bodies, and their event streams."""

from urllib.parse import urlencode
from uuid import UUID

from flask import Response, current_app, request
from werkzeug.wrappers import Response as AnyResponse

from tidegate.errors import UnknownJob
from tidegate.jobs.filter import Filter, Page
from tidegate.jobs.job import Job
from webapp.context import context
from webapp.http.rate_limits import count
from webapp.page.answers import page, secured, see
from webapp.page.blueprint import overview_parts, routes
from webapp.page.board import RECENT
from webapp.page.job_view import JobView
from webapp.page.live import job_stream, overview_stream, partition_stream
from webapp.page.partition_table import PartitionSearch, PartitionTable
from webapp.page.search import FULL_ID, Search
from webapp.page.session import operating, visitor

_ENDINGS = {"application/json": ".json", "text/csv": ".csv", "text/plain": ".txt"}


@routes.get("/")
def overview() -> AnyResponse:
    """Shows lanes, what runs, and the newest jobs; or, in place of the newest, the jobs that were searched for."""
    known, search = visitor(), Search.of(request.args)
    if (found := FULL_ID.search(search.q.lower())) and _is_there(found[0], known.scope):
        return see(f"jobs/{UUID(found[0])}")
    is_listing = bool(search.q or search.cursor or search.is_narrow)
    wanted = _filter(search, known.scope)
    listed = context().jobs.list(wanted) if is_listing and wanted else Page(jobs=(), before_id=None)
    return page(
        "overview",
        parts=overview_parts().now(known.scope),
        is_listing=is_listing,
        rows=overview_parts().board.rows(listed.jobs),
        older=_older(listed.before_id) if listed.before_id else None,
        search=search,
        operations=sorted(context().registry.operations),
        downstreams=sorted(context().registry.downstreams),
        is_operator=known.scope is None,
    )


@routes.get("/live")
def live() -> Response:
    """The event stream of the overview."""
    return secured(overview_stream(visitor(), overview_parts()))


@routes.get("/downstreams/<name>/partitions")
def partitions(name: str) -> Response:
    """Shows a downstream's partitions, page by page: what waits in each and why, what it may, and its weight."""
    operating()
    search = PartitionSearch.of(request.args)
    table = PartitionTable.read(context(), name, search)
    return page(
        "partitions", table=table, search=search, parts=table.parts(context(), current_app.jinja_env), name=name
    )


@routes.get("/downstreams/<name>/partitions/live")
def partitions_live(name: str) -> Response:
    """The event stream of a page of partitions."""
    known, search = operating(), PartitionSearch.of(request.args)
    return secured(partition_stream(known, PartitionTable.read(context(), name, search)))


@routes.get("/jobs/<uuid:job_id>")
def job(job_id: UUID) -> Response:
    """Shows one job: its state, its timeline, its input and result."""
    known, view = visitor(), _view(job_id)
    parts = view.parts(current_app.jinja_env, is_operator=known.scope is None)
    return page("job", job=view.job, parts=parts, is_settled=view.is_settled)


@routes.get("/jobs/<uuid:job_id>/live")
def job_live(job_id: UUID) -> Response:
    """The event stream of one job."""
    return secured(job_stream(visitor(), _view(job_id)))


@routes.get("/jobs/<uuid:job_id>/<any(params, result):kind>")
def body(job_id: UUID, kind: str) -> Response:
    """Downloads a job's whole input or result as a file that no browser would run or show."""
    found = _job(job_id)
    stored = context().store.callers.body(found.id, "input" if kind == "params" else "result")
    if stored is None:
        raise UnknownJob(f"job {found.id} has no {kind}")
    ending = _ENDINGS.get(stored.content_type.partition(";")[0].strip(), ".bin")
    response = Response(stored.content, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{found.id}-{kind}{ending}"'
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _job(job_id: UUID) -> Job:
    found = context().jobs.get(str(job_id), client_id=visitor().scope)
    if not found.state.is_final:
        count(context().poll_limit, "reads")
    return found


def _view(job_id: UUID) -> JobView:
    return JobView.read(context(), _job(job_id))


def _is_there(text: str, client_id: str | None) -> bool:
    try:
        context().jobs.get(str(UUID(text)), client_id=client_id)
    except UnknownJob:
        return False
    return True


def _filter(search: Search, client_id: str | None) -> Filter | None:
    """The filter of the jobs that this visitor may see; None: no job can match."""
    if client_id is None and search.client:
        client_id = context().store.timeline.client_id(search.client)
        if client_id is None:
            return None
    return search.page(client_id, limit=RECENT)


def _older(last_id: str) -> str:
    return "?" + urlencode({**request.args.to_dict(), "cursor": last_id})
