"""Waits for a job with a bar in the terminal, offers to cancel it at Ctrl-C, and delivers its result."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

from tidegate_client import clock
from tidegate_client.command.exits import Exit, code_of_state
from tidegate_client.command.session import LONG_PATIENCE, Session
from tidegate_client.command.shown import card, reason, span, until
from tidegate_client.errors import Refused
from tidegate_client.job import Job
from tidegate_client.known_job import RawResult
from tidegate_client.snapshot import Snapshot, State

STOP_SECONDS = 15
"""How long a running job that was called off is waited for: it stops when it next tells its progress."""


class Expected(ProgressColumn):
    """When it should be done: by the gateway's forecast while it waits, by its own speed while it runs."""

    def render(self, task: Task) -> Text:
        """As the bar asks, several times a second, so that it counts down between two answers."""
        seen: Snapshot | None = task.fields["seen"]
        if seen and seen.waiting and seen.waiting.estimated_finish:
            text = f"done in about {until(seen.waiting.estimated_finish)}"
            if seen.waiting.in_time:
                return Text(text, style="cyan")
            return Text(f"{text}, too late for its deadline", style="yellow")
        if seen and seen.state is State.RUNNING and task.time_remaining:
            return Text(f"{span(task.time_remaining)} left", style="cyan")
        return Text("")


def follow(session: Session, job: Job, *, timeout: float | None = None, output: Path | None = None) -> Exit:
    """Waits until the job is final, shows how far it is, and delivers what it brought."""
    session.client.patience = LONG_PATIENCE
    while True:
        try:
            _watch(session, job, timeout)
        except KeyboardInterrupt:
            match _ask(job):
                case "wait":
                    continue
                case "leave":
                    session.say(f"It goes on. To come back to it: tidegate wait {job.id}")
                    return Exit.INTERRUPTED
            _cancel(session, job)
        return deliver(session, job, output=output)


def deliver(session: Session, job: Job, *, output: Path | None = None) -> Exit:
    """Writes the result of a job that succeeded, the reason of one that did not; the code says which."""
    seen = job.seen
    if seen.state is State.SUCCEEDED and not (session.is_json and output is None):
        raw = job.raw_result()
        try:
            _write(session, raw, output)
        except BrokenPipeError:
            raise  # whoever read it has enough
        except OSError as error:
            click.echo(f"The result can't be written: {error}. It is kept: tidegate result {job.id} -o FILE", err=True)
            return Exit.NOT_WRITTEN
    if session.is_json:
        if seen.state is State.SUCCEEDED and seen.document["result_content_type"] is None:
            job.refresh()  # the answer to a submit has no result
        session.document(job.seen.document)
    elif seen.state is not State.SUCCEEDED:
        session.err.print(card(seen))
    return code_of_state(seen.state)


def _watch(session: Session, job: Job, timeout: float | None) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[note]}", markup=True),
        Expected(),
    )
    is_shown = session.err.is_terminal and not session.is_json
    with Progress(*columns, console=session.err, transient=True, disable=not is_shown) as progress:
        bar = progress.add_task("submitted", total=100, note="", seen=None, start=False)

        def tell(seen: Snapshot) -> None:
            if seen.state is State.RUNNING and not progress.tasks[0].started:
                progress.start_task(bar)
            progress.update(bar, completed=seen.percent, description=seen.state.value, note=_note(seen), seen=seen)

        job.wait(timeout, tell)


def _note(seen: Snapshot) -> str:
    """Beside the bar; escaped, for a note is the operation's text."""
    if seen.waiting:
        position = seen.waiting.position
        return reason(seen.waiting) + (f", {position} ahead" if position else "")
    return (seen.note or "").replace("[", r"\[")


def _ask(job: Job) -> str:
    """`cancel`, `leave` or `wait`; without a terminal to ask on, or at a second Ctrl-C, `leave`."""
    question = f"Cancel job {job.id}? y: yes, n: let it go on without me, w: wait on [y/N/w] "
    # The body may have come over standard input, so the answer must not.
    with suppress(OSError, KeyboardInterrupt), Path("/dev/tty").open(encoding="utf-8", errors="replace") as terminal:
        click.echo(question, err=True, nl=False)
        answer = terminal.readline().strip().lower()
        return {"y": "cancel", "yes": "cancel", "w": "wait"}.get(answer, "leave")
    return "leave"


def _cancel(session: Session, job: Job) -> None:
    try:
        job.cancel()
        if not job.state.is_final:
            session.say("It was asked to stop.")
            give_up_at = clock.monotonic() + STOP_SECONDS
            # Not `wait`: Retry-After tells when it would have been done.
            while not job.state.is_final and clock.monotonic() < give_up_at:
                clock.sleep(0.3)
                job.refresh()
    except Refused as refusal:
        session.say(str(refusal))
        job.refresh()
    except KeyboardInterrupt:
        pass  # it was asked to stop; how it ends need not be seen


def _write(session: Session, raw: RawResult, output: Path | None) -> None:
    told = f"{len(raw.content)} bytes of {raw.content_type or 'no named type'}"
    if output is not None:
        output.write_bytes(raw.content)
        session.say(f"{output}: {told}")
    elif not sys.stdout.isatty():
        sys.stdout.buffer.write(raw.content)
        sys.stdout.buffer.flush()
    else:
        try:
            _print(session, raw.content.decode())
        except UnicodeDecodeError:
            session.say(f"{told}; say where with -o FILE")


def _print(session: Session, text: str) -> None:
    try:
        session.out.print_json(text)
    except json.JSONDecodeError:
        click.echo(text)
