"""Callers: steady submits, polls that hold every answer against the contract, now and then a cancel or an erasure."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

_TIMEOUT_SECONDS = 15
_SUBMITTERS = 8
_POLLERS = 3
_POLLED = 300  # the newest jobs are the ones that are asked for
_SHORT_SHARE, _CANCEL_SHARE = 0.06, 0.04
_ERASE_SHARE = 0.5  # of those that were cancelled: at once, while a message of it may still travel
_KEY_SHARE, _MOST_TRIES, _BETWEEN_TRIES_SECONDS = 0.3, 5, 0.5  # with an Idempotency-Key a submit is tried again
_SHARES = {"paced": 40, "free": 25, "compute": 12, "steps": 23}
_STATUS = {202: {"queued", "running"}, 200: {"succeeded"}, 504: {"expired"}, 502: {"failed"}, 410: {"cancelled"}}
_CLOCK_SLACK_SECONDS = 0.05


@dataclass(kw_only=True)
class Accepted:
    """A job that was answered with 202, and what its callers saw of it since."""

    id: str
    operation: str
    submitted_at: float  # seconds since 1970
    seconds: float  # until the 202
    is_short: bool
    cancelled_at: float | None = None  # when it was told so, seconds since 1970
    may_be_erased: bool = False  # that was asked
    is_erased: bool = False  # and answered
    final: str | None = None
    final_at: float = 0.0  # when the first such answer had come

    def final_before(self, instant: float) -> str | None:
        """The final state that somebody had been told by then."""
        return self.final if self.final and self.final_at < instant else None


@dataclass
class Load:
    """Submits at `per_second` until `stop`; everything that was seen lies in its fields."""

    port: int
    seed: int
    per_second: float
    accepted: list[Accepted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    polls: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # answers that the contract does not allow

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins in threads."""
        for number in range(_SUBMITTERS + _POLLERS):
            turn = self._submit if number < _SUBMITTERS else self._poll
            caller = Caller(self.port, Random(f"{self.seed} {number}"))  # noqa: S311 - to be repeated
            thread = threading.Thread(target=self._loop, args=(turn, caller), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends it, waiting for the answers that are on their way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, turn: "Callable[[Caller], None]", caller: "Caller") -> None:
        while not self._stopped.is_set():
            turn(caller)
        caller.close()

    def _submit(self, caller: "Caller") -> None:
        random = caller.random
        self._stopped.wait(random.expovariate(self.per_second / _SUBMITTERS))
        operation = random.choices(list(_SHARES), weights=list(_SHARES.values()))[0]
        is_short = random.random() < _SHORT_SHARE
        # The trace names the submit: whatever its answers were, it makes one job.
        headers = {"traceparent": f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-01"}
        if is_short:
            headers["Job-Timeout"] = str(random.choice((1, 2)))
        has_key = random.random() < _KEY_SHARE
        if has_key:
            headers["Idempotency-Key"] = f"{random.getrandbits(64):x}"
        body = {"compute": {"milliseconds": random.randint(50, 200)}, "steps": {"count": random.randint(4, 20)}}
        for _ in range(_MOST_TRIES if has_key else 1):
            began = time.time()
            answer = caller.ask("POST", f"/v1/operations/{operation}/jobs", body.get(operation, {}), headers)
            seconds = time.time() - began
            if answer.status == 202:
                break
            self.refused[f"{answer.why} ({'1 or 2 s' if is_short else '5 min'} to the deadline)"] += 1
            if answer.status not in {0, 503}:
                self.broken.append(f"a submit was answered {answer.why}")
            self._stopped.wait(_BETWEEN_TRIES_SECONDS if has_key else 0)
        else:
            return
        job = Accepted(
            id=answer.document["id"], operation=operation, submitted_at=began, seconds=seconds, is_short=is_short
        )
        self.accepted.append(job)
        if random.random() < _CANCEL_SHARE:
            time.sleep(random.uniform(0, 0.5))
            self._cancel(caller, job)

    def _cancel(self, caller: "Caller", job: Accepted) -> None:
        answer = caller.ask("POST", f"/v1/jobs/{job.id}/cancel")
        self.polls[f"cancel {answer.why}"] += 1
        if answer.status == 200:
            job.cancelled_at = time.time()
            if caller.random.random() < _ERASE_SHARE:
                self._erase(caller, job)
        elif answer.status not in {0, 202, 409, 503}:
            self.broken.append(f"{job.id}: a cancel was answered {answer.why}")

    def _erase(self, caller: "Caller", job: Accepted) -> None:
        job.may_be_erased = True
        answer = caller.ask("DELETE", f"/v1/jobs/{job.id}")
        self.polls[f"delete {answer.why}"] += 1
        job.is_erased = answer.status == 204
        if answer.status not in {0, 204, 503}:
            self.broken.append(f"{job.id}: to erase it, which was cancelled, was answered {answer.why}")

    def _poll(self, caller: "Caller") -> None:
        self._stopped.wait(caller.random.uniform(0, 0.1))
        recent = self.accepted[-_POLLED:]
        if not recent:
            return
        job = caller.random.choice(recent)
        began = time.time()
        answer = caller.ask("GET", f"/v1/jobs/{job.id}")
        ended = time.time()
        self.polls[answer.why] += 1
        if answer.state is None:
            if answer.status not in {0, 503} and not (answer.status == 404 and job.may_be_erased):
                self.broken.append(f"{job.id}: a poll was answered {answer.why}")
            return
        self._judge(job, answer, began, ended)

    def _judge(self, job: Accepted, answer: "Answer", began: float, ended: float) -> None:
        """Status and state agree; 504 comes at the deadline, neither sooner nor later; what is final stays."""
        document, state = answer.document, str(answer.state)
        deadline = datetime.fromisoformat(document["deadline"]).timestamp()
        if state not in _STATUS.get(answer.status, set()):
            self.broken.append(f"{job.id}: {answer.status} for a job that is {state}")
        if answer.status == 202 and began > deadline + _CLOCK_SLACK_SECONDS:
            self.broken.append(f"{job.id}: 202 although its deadline is {began - deadline:.3f} s ago")
        if answer.status == 504 and ended < deadline - _CLOCK_SLACK_SECONDS:
            self.broken.append(f"{job.id}: 504 although its deadline is {deadline - ended:.3f} s ahead")
        if job.cancelled_at and job.cancelled_at < began and state != "cancelled":
            self.broken.append(f"{job.id}: {state} after its cancel was answered 200")
        if (was := job.final_before(began)) and state != was:
            self.broken.append(f"{job.id}: {state} after it had been {was}")
        if answer.status != 202 and job.final is None:
            job.final, job.final_at = state, ended


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; `state` only of a job."""

    status: int  # 0: there was none
    why: str
    state: str | None = None
    document: Any = None


class Caller:
    """One keep-alive connection, for one thread; its random numbers are its own."""

    def __init__(self, port: int, random: Random | None = None) -> None:
        self.random = random or Random()  # noqa: S311 - nothing secret
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request, made once: a failure is an answer too."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            answer = self._connection.getresponse()
            content_of_answer = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(status=0, why=type(error).__name__)
        document = json.loads(content_of_answer or b"{}")
        name = str(document.get("type", "")).rpartition(":")[2]
        return Answer(
            status=answer.status,
            why=f"{answer.status} {name}".strip(),
            state=answer.headers.get("Tidegate-Job-State"),
            document=document,
        )
