"""The JSON document of a job, the same in HTTP answers and in webhooks."""

from dataclasses import dataclass
from typing import cast

import orjson

from tidegate.access.tickets import Signer
from tidegate.jobs import shapes
from tidegate.jobs.job import InBatch, Job, StoredBody, Waiting
from tidegate.operations.outcome import ErrorCode
from tidegate.operations.sharing import named_by
from tidegate.operations.typed_input import says_json
from tidegate.states import State
from tidegate.timeformat import instant

_ERRORS: dict[State, shapes.JobError] = {
    State.EXPIRED: {"code": ErrorCode.DEADLINE_EXCEEDED, "message": "there was no result before the deadline"},
    State.CANCELLED: {"code": ErrorCode.CANCELLED, "message": "the job was called off before it had a result"},
}


def job_path(job: Job) -> str:
    """The URL path of a job, without the base URL."""
    return f"/v1/jobs/{job.id}"


@dataclass(frozen=True, kw_only=True)
class Links:
    """Makes a job's URLs for one client: under `base`, with a ticket where the client's key can sign one."""

    base: str
    signer: Signer | None

    def of(self, job: Job) -> shapes.JobLinks:
        """The URLs of everything that can be done with the job."""
        url = self.base + job_path(job)
        ticket = f"?ticket={self.signer.ticket(job.id, job.deadline)}" if self.signer else ""
        return {
            "self": url,
            "result": f"{url}/result",
            "events": f"{url}/events{ticket}",
            "cancel": f"{url}/cancel",
            "retry": f"{url}/retry",
        }


def document_of(job: Job, links: Links, result: StoredBody | None = None, waiting: Waiting | None = None) -> shapes.Job:
    """The job's document, as docs/api.md describes it. A result that is JSON stands in it as it is."""
    document: shapes.Job = {
        "id": job.id,
        "operation": job.operation,
        "state": job.state,
        "progress": {"percent": job.percent, "done": job.done, "total": job.total, "note": job.note},
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": instant(job.created_at),
        "started_at": instant(job.started_at),
        "finished_at": instant(job.finished_at),
        "deadline": instant(job.deadline),
        "retry_of": job.retry_of,
        "client": job.client_id,
        "waiting": _waiting_document(waiting),
        "result": orjson.Fragment(result.content) if result and result.is_json and result.content else None,
        "result_content_type": result.content_type if result else None,
        "error": error_of(job),
        "links": links.of(job),
    }
    if job.partition is not None:
        _, name = named_by(job.partition)
        document |= {"partition": name or None, "priority": job.priority}
    if (part := batch_of(job)) is not None:
        document["batch"] = {"id": part.id, "size": part.size, "index": part.index}
    if result and (problem := _problem_of(result)):
        document["result_problem"] = problem
    return document


def batch_of(job: Job) -> InBatch | None:
    """The last batch that the job was called in; None: none, or it waits.

    A queued job's may change with a release, which is no change that an ETag tells of.
    """
    return None if job.state is State.QUEUED or job.started_at is None else job.batch


def _problem_of(result: StoredBody) -> str | None:
    """What keeps a result out of the document though its content type says JSON: a null must not look like one."""
    if result.is_json:
        return None if result.content else "it is too long to stand here; links.result has it"
    if says_json(result.content_type):
        return "its content type says JSON, and it is none (RFC 8259); links.result has it byte for byte"
    return None


def error_of(job: Job) -> shapes.JobError | None:
    """The `error` of the document: why the job ended without a result; None for one that goes on or succeeded."""
    if job.state is State.FAILED:
        return cast("shapes.JobError", job.error)
    return _ERRORS.get(job.state)


def _waiting_document(waiting: Waiting | None) -> shapes.Waiting | None:
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "in_time": waiting.in_time,
        "position": waiting.position,
        "estimated_start": instant(waiting.estimated_start),
        "estimated_finish": instant(waiting.estimated_finish),
    }
