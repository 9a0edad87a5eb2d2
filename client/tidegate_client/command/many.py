"""Many jobs: a submit of each line; cancel and retry: which, how many there are, and whether that is meant."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Unpack

import click

from tidegate_client.command.exits import Exit
from tidegate_client.command.inputs import FILTERS, WHICH, Command
from tidegate_client.command.session import LONG_PATIENCE, Session
from tidegate_client.errors import Refused, SomeRefused
from tidegate_client.known_gateway import Asked
from tidegate_client.many import Action, Counts

_DONE = {"cancel": "cancelled", "retry": "submitted again"}


def MANY(command: Command) -> Command:  # noqa: N802 - it stands among options, which are written so
    """The options that say which jobs, and whether that is meant."""
    for option in reversed(
        (
            WHICH,
            click.option("--all", "is_all", is_flag=True, help="All of them, if there is no other option."),
            click.option("--dry-run", is_flag=True, help="Only say how many there are."),
            click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        )
    ):
        command = option(command)
    return command


def submit_bulk(session: Session, operation: str, content: bytes, **asked: Unpack[Asked]) -> Exit:
    """Submits a job for each line of JSON; writes their ids in this order, and which lines were refused and why."""
    inputs = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            inputs += [(number, json.loads(line))] if line.strip() else []
        except ValueError as error:
            raise click.UsageError(f"line {number} is not JSON ({error}); nothing was submitted") from None
    refusals: Mapping[int, Refused] = {}
    try:
        jobs = session.client.submit_many(operation, [params for _, params in inputs], **asked)
    except SomeRefused as some:
        jobs, refusals = [job for _, job in sorted(some.jobs.items())], some.refusals
    for job in jobs:
        if session.is_json:
            session.document(job.seen.document)
        else:
            click.echo(job.id)
    for index, refusal in refusals.items():
        if session.is_json:
            session.complain(refusal)
        else:
            click.echo(f"line {inputs[index][0]}: {refusal}", err=True)
    return Exit.REFUSED if refusals else Exit.DONE


def is_many(given: Mapping[str, Any]) -> bool:
    """Whether options that say which jobs were given."""
    return given["is_all"] or any(given[name] is not None for name in FILTERS)


def on_many(session: Session, action: Action, job_id: str | None, given: Mapping[str, Any]) -> Exit:
    """Says how many jobs there are, asks, and does it."""
    if job_id:
        raise click.UsageError("JOB_ID and options that say which jobs: give one of them")
    if not is_many(given):
        raise click.UsageError("say which: JOB_ID, or --state, --operation, … or --all")
    filters = {name: given[name] for name in FILTERS}
    act = session.client.cancel_jobs if action == "cancel" else session.client.retry_jobs
    found = act(all=given["is_all"], dry_run=True, **filters).matched
    number = f"{found:,} job{'' if found == 1 else 's'}" if found < 100_000 else "100,000 jobs or more"
    if given["dry_run"] or not found:
        if session.is_json:
            session.document({"matched": found})
        else:
            click.echo(number)
        return Exit.DONE
    if not given["yes"]:
        click.confirm(f"{action.capitalize()} {number}?", abort=True, err=True)
    session.client.patience = LONG_PATIENCE
    counts = act(all=given["is_all"], **filters)
    if session.is_json:
        session.document(asdict(counts))
    else:
        _tell(session, action, counts)
    return Exit.DONE


def _tell(session: Session, action: Action, counts: Counts) -> None:
    click.echo(f"{counts.done:,} {_DONE[action]}")
    if counts.asked_to_stop:
        session.say(f"{counts.asked_to_stop:,} run and were asked to stop")
    for reason, number in counts.refusals.items():
        session.say(f"{number:,} were not: {reason}")
