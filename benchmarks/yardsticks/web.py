"""Flask routes as one writes them by hand, on the same server as ours: `granian benchmarks.yardsticks.web:app`."""

from flask import Flask, abort, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import insert, select

from benchmarks.yardsticks.rows import engine_from_environment, new_row, requests
from benchmarks.yardsticks.worker import call, work

app = Flask(__name__)
_engine = engine_from_environment()


@app.route("/empty", methods=["GET", "POST"])
def empty() -> ResponseReturnValue:
    """What the server and Flask cost."""
    return ""


@app.post("/insert")
def record() -> ResponseReturnValue:
    """One durable row."""
    row = new_row(request.get_data())
    with _engine.begin() as connection:
        connection.execute(insert(requests).values(row))
    return {"id": row["id"]}, 202


@app.post("/jobs")
def submit() -> ResponseReturnValue:
    """A durable row and a task: 202 and where to look."""
    row = new_row(request.get_data())
    with _engine.begin() as connection:
        connection.execute(insert(requests).values(row))
    work.delay(row["id"])
    location = url_for("read", request_id=row["id"], _external=True)
    return {"id": row["id"], "state": "queued"}, 202, {"Location": location}


@app.get("/jobs/<request_id>")
def read(request_id: str) -> ResponseReturnValue:
    """How far it is."""
    with _engine.connect() as connection:
        row = connection.execute(select(requests).where(requests.c.id == request_id)).one_or_none()
    if row is None:
        abort(404)
    return {"id": row.id, "state": row.state}, 200 if row.finished_at else 202


@app.post("/round-trip")
def round_trip() -> ResponseReturnValue:
    """Bare Celery: a task and the wait for its result."""
    answer: ResponseReturnValue = call.delay().get(timeout=30)
    return answer
