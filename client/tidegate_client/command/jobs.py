"""Commands about jobs: submit, status, wait, events, list, cancel, retry, result, delete."""

import itertools
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from rich.text import Text

from tidegate_client.command.exits import Exit, code_of_state
from tidegate_client.command.following import deliver, follow
from tidegate_client.command.inputs import HEADERS, OUTPUT, SECONDS, WHICH, headers_of, type_of
from tidegate_client.command.many import MANY, is_many, on_many, submit_bulk
from tidegate_client.command.session import LONG_PATIENCE, Session, reaches_gateway
from tidegate_client.command.shown import card, first_line, rows, ticks, why_it_waits
from tidegate_client.job import Job
from tidegate_client.snapshot import State


@click.command()
@click.argument("operation")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("-d", "--data", help="The input itself, instead of FILE.")
@click.option("--content-type", help="Of the input; without, from FILE's name or from what it looks like.")
@click.option("-w", "--wait", is_flag=True, help="Wait for the result and write it to standard output.")
@OUTPUT
@click.option("--timeout", type=SECONDS, help="From now to the job's deadline, if less than the operation's own.")
@click.option(
    "--not-before", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="When it may start: 2026-12-24T18:00:00+01:00"
)
@click.option("--idempotency-key", help="The same key and input give the same job; without, a new one is made.")
@click.option("--webhook", help="URL that is told how the job ended.")
@click.option("--partition", help="In whose name the job waits, where the downstream has partitions.")
@click.option("--priority", type=click.IntRange(0, 7), help="0 (first) to 7, 3 by default: its place in its partition.")
@HEADERS
@click.option("--bulk", is_flag=True, help="FILE has a JSON input a line: a job each, their ids in this order.")
@reaches_gateway
def submit(
    session: Session,
    *,
    operation: str,
    file: Any,
    data: str | None,
    content_type: str | None,
    wait: bool,
    output: Path | None,
    timeout: float | None,
    not_before: datetime | None,
    idempotency_key: str | None,
    webhook: str | None,
    partition: str | None,
    priority: int | None,
    headers: tuple[str, ...],
    bulk: bool,
) -> Exit:
    """Submits a job and writes its id.

    FILE, or - for standard input, is the input of OPERATION."""
    if file is not None and data is not None:
        raise click.UsageError("FILE and --data: give one of them")
    content = file.read() if file is not None else (data or "").encode()
    if bulk:
        if any((content_type, wait, output, not_before, idempotency_key, webhook, headers)):
            raise click.UsageError("--bulk goes with --timeout, --partition and --priority, and no other option")
        return submit_bulk(session, operation, content, timeout=timeout, partition=partition, priority=priority)
    key = idempotency_key or uuid4().hex
    try:
        job = session.client.submit(
            operation,
            content,
            content_type=type_of(content, file, content_type),
            timeout=timeout,
            not_before=not_before,
            idempotency_key=key,
            webhook_url=webhook,
            partition=partition,
            priority=priority,
            headers=headers_of(headers),
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--header") from None
    except KeyboardInterrupt:
        session.say(f"Interrupted; it may have been taken. The same command with --idempotency-key {key} finds out.")
        return Exit.INTERRUPTED
    if wait or output:
        return follow(session, job, output=output)
    if session.is_json:
        session.document(job.seen.document)
    else:
        click.echo(job.id)
        if sys.stderr.isatty() and why_it_waits(job.seen):
            session.say(why_it_waits(job.seen))
    return Exit.DONE


@click.command()
@click.argument("job_id")
@reaches_gateway
def status(session: Session, *, job_id: str) -> Exit:
    """Shows a job; the exit code tells its state."""
    job = session.client.job(job_id)
    if session.is_json:
        session.document(job.seen.document)
    else:
        session.out.print(card(job.seen))
    return code_of_state(job.state)


@click.command()
@click.argument("job_id")
@click.option("--timeout", type=SECONDS, help="How long to wait; the job goes on afterwards, and the exit code is 7.")
@OUTPUT
@reaches_gateway
def wait(session: Session, *, job_id: str, timeout: float | None, output: Path | None) -> Exit:
    """Waits for a job and writes its result."""
    return follow(session, session.client.job(job_id), timeout=timeout, output=output)


@click.command()
@click.argument("job_id")
@reaches_gateway
def events(session: Session, *, job_id: str) -> Exit:
    """Writes each change of a job as it happens, until it is final.

    The exit code tells how it ended."""
    session.client.patience = LONG_PATIENCE
    code = Exit.NOT_DONE
    for event in session.client.events(job_id):
        seen = event.job
        code = code_of_state(seen.state)
        if session.is_json:
            session.document({"event": event.kind, "id": event.id, "job": seen.document})
        elif session.out.is_terminal:
            more = why_it_waits(seen) or first_line((seen.error.message if seen.error else seen.note) or "")
            session.out.print(Text.assemble(ticks(seen.state), f" {seen.state} {seen.percent} %  ", (more, "dim")))
        else:
            click.echo("\t".join((event.kind, event.id, seen.state, str(seen.percent))))
    return code


@click.command("list")
@WHICH
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@reaches_gateway
def list_(session: Session, /, *, limit: int, **which: Any) -> None:
    """Lists jobs, newest first."""
    found = itertools.islice(session.client.jobs(**which), limit)
    if session.is_json:
        for job in found:
            session.document(job.seen.document)
    elif session.out.is_terminal:
        session.out.print(rows([job.seen for job in found]))
    else:
        for job in found:
            seen = job.seen
            columns = (seen.id, seen.operation, seen.state, str(seen.percent), seen.document["created_at"])
            click.echo("\t".join(columns))


@click.command()
@click.argument("job_id", required=False)
@MANY
@reaches_gateway
def cancel(session: Session, /, *, job_id: str | None, **many: Any) -> Exit | None:
    """Calls a job off, or many by what they are.

    At once while it waits, at its next progress when it runs. Many (operators): by the options, whose number is shown
    first."""
    if not job_id or is_many(many):
        return on_many(session, "cancel", job_id, many)
    job = session.client.job(job_id).cancel()
    if session.is_json:
        session.document(job.seen.document)
    else:
        session.say("Cancelled." if job.state is State.CANCELLED else "It runs, and was asked to stop.")
    return None


@click.command()
@click.argument("job_id", required=False)
@click.option("-w", "--wait", is_flag=True, help="Wait for the result and write it to standard output.")
@OUTPUT
@MANY
@reaches_gateway
def retry(session: Session, /, *, job_id: str | None, wait: bool, output: Path | None, **many: Any) -> Exit:
    """Submits a job that did not succeed again, or many by what they are.

    Writes the new one's id. Many (operators): by the options, whose number is shown first."""
    if not job_id or is_many(many):
        return on_many(session, "retry", job_id, many)
    job = session.client.job(job_id).retry()
    if wait or output:
        return follow(session, job, output=output)
    if session.is_json:
        session.document(job.seen.document)
    else:
        click.echo(job.id)
    return Exit.DONE


@click.command()
@click.argument("job_id")
@OUTPUT
@reaches_gateway
def result(session: Session, *, job_id: str, output: Path | None) -> Exit:
    """Writes a job's result as it is.

    The exit code tells the state of one that has none."""
    job: Job = session.client.job(job_id)
    return deliver(session, job, output=output)


@click.command()
@click.argument("job_id")
@reaches_gateway
def delete(session: Session, *, job_id: str) -> None:
    """Erases a job that has ended, and its result."""
    session.client.job(job_id).delete()
    session.say("Erased.")
