"""POST routes of the live page: sign in and out, cancel, retry, pause, change a rate; each redirects afterwards."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote
from uuid import UUID

import orjson
from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from tidegate.errors import InvalidQuery, JobAlreadyFinal
from webapp.context import context
from webapp.http.queries import PARTITION_CLIENT, PARTITION_NAME
from webapp.http.rate_limits import count
from webapp.page.answers import page, root, see
from webapp.page.blueprint import overview_parts, routes
from webapp.page.forms import read_form
from webapp.page.partition_table import PartitionSearch
from webapp.page.session import begin, check_origin, end, operating, visitor
from webapp.resources import partitions
from webapp.resources.downstreams import Change, apply, read_change
from webapp.serving.request_body import STRANGER

_JOB_PAGE = re.compile(r"jobs/[0-9a-f-]{36}")


@routes.before_request
def _check_forms() -> None:
    if request.method == "POST":
        check_origin()


@routes.get("/sign-in")
def sign_in() -> AnyResponse:
    """Shows the form for an API key."""
    if context().authenticator is None:
        return see()
    return page("sign_in", next=_next(request.args.get("next", "")), is_refused=False)


@routes.post("/sign-in")
def signed_in() -> AnyResponse:
    """Begins a session with a good key; else shows the form again with 403."""
    form = read_form(STRANGER)
    then = _next(form.get("next", ""))
    response = see(then)
    if context().authenticator is None or begin(response, form.get("key", "").strip()):
        return response
    return page("sign_in", 403, next=then, is_refused=True)


@routes.post("/sign-out")
def sign_out() -> AnyResponse:
    """Ends the session in this browser."""
    response = see("sign-in")
    end(response)
    return response


@routes.post("/jobs/<uuid:job_id>/cancel")
def cancel(job_id: UUID) -> AnyResponse:
    """Cancels the job; one that has ended meanwhile stays as it is, and its page says how."""
    with suppress(JobAlreadyFinal):
        context().jobs.cancel(str(job_id), client_id=visitor().scope)
    overview_parts().board.refresh()
    return see(f"jobs/{job_id}#job-state")


@routes.post("/jobs/<uuid:job_id>/retry")
def retry(job_id: UUID) -> AnyResponse:
    """Submits the job again: once, however often the button is pressed."""
    scope = visitor().scope
    count(context().submit_limit, "submits")
    new = context().jobs.retry(str(job_id), client_id=scope, idempotency_key=f"retry-of-{job_id}")
    overview_parts().board.refresh()
    return see(f"jobs/{new.id}#job-state")


@routes.post("/downstreams/<name>/pause")
def pause(name: str) -> AnyResponse:
    """Pauses a downstream: no further job of it is released."""
    return _change(name, Change(paused=True))


@routes.post("/downstreams/<name>/resume")
def resume(name: str) -> AnyResponse:
    """Resumes a downstream; also ends a pause that the downstream asked for, and closes the breaker."""
    return _change(name, Change(paused=False))


@routes.post("/downstreams/<name>/rate")
def rate(name: str) -> AnyResponse:
    """Changes the rate: one or several by comma, "unlimited", or back to the file's."""
    form = read_form(operating().client_id)
    text = form.get("rate", "").strip()
    wanted = text if text == "unlimited" else [each.strip() for each in text.split(",")]
    is_taken_back = "declared" in form
    return _change(name, read_change(orjson.dumps({"rate": None if is_taken_back else wanted})))


@routes.post("/downstreams/<name>/partitions")
def partition(name: str) -> AnyResponse:
    """Pauses or resumes a partition, or sets its weight; leads back to the same page of the table."""
    form = read_form(operating().client_id)
    search = PartitionSearch.of(request.args)
    wanted = partitions.read_change(orjson.dumps(_partition_change(form)))
    client, which = form.get("client", ""), form.get("name", "")
    if not (re.fullmatch(PARTITION_CLIENT, client) and re.fullmatch(PARTITION_NAME, which)):
        raise InvalidQuery("name, client: send the form of the table")
    partitions.apply(name, client, which, wanted)
    return see(f"downstreams/{quote(name, safe='')}/partitions{search.query()}")


def _partition_change(form: Mapping[str, str]) -> dict[str, object]:
    if "paused" in form:
        return {"paused": form["paused"] == "true"}
    if "declared" in form:
        return {"weight": None}
    text = form.get("weight", "").strip()
    try:
        weight = float(text)
    except ValueError:
        return {"weight": text}
    return {"weight": weight if math.isfinite(weight) else text}


@routes.get("/downstreams/<name>/<any(pause, resume, rate):act>")
def act_of_downstream(name: str, act: str) -> AnyResponse:  # noqa: ARG001 - the rule's
    """Leads back to the downstream: the address that a browser has while it shows why a form was refused."""
    return see(f"#downstream-{name}")


@routes.get("/jobs/<uuid:job_id>/<any(cancel, retry):act>")
def act_of_job(job_id: UUID, act: str) -> AnyResponse:  # noqa: ARG001 - the rule's
    """Leads back to the job, likewise."""
    return see(f"jobs/{job_id}")


@routes.route("/lanes/<name>/<act>", methods=["GET", "POST"])
def act_of_lane(name: str, act: str) -> AnyResponse:
    """Redirects what was an address of version 0.1.0, with the form that is sent to it."""
    return redirect(f"{root()}downstreams/{quote(name, safe='')}/{quote(act, safe='')}", 308)


def _change(name: str, change: Change) -> AnyResponse:
    operating()
    apply(name, change)
    overview_parts().board.refresh()
    return see(f"#downstream-{name}")


def _next(path: str) -> str:
    """The path to redirect to after the sign-in: the overview, or a job's page; nowhere else."""
    return path if _JOB_PAGE.fullmatch(path) else ""
