"""The demo's two bursts of the same requests: straight at the sample downstream, and through the gateway."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from tidegate_client import Client, Job, State

AT_ONCE = 100
"""Callers side by side."""

Value = TypeVar("Value")
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What became of a burst: seconds from its beginning at which requests were taken, refused, and brought a quote.

    `refused_by_downstream` is the downstream's own count.
    """

    requests: int
    taken: list[float]
    refused: list[float]
    quotes: list[float]
    refused_by_downstream: int

    @property
    def seconds(self) -> float:
        """Until the last answer."""
        return max((*self.taken, *self.refused, *self.quotes), default=0.0)


def straight(sample_url: str, requests: int) -> Burst:
    """Every caller calls the downstream itself, at once."""
    before = _refused(sample_url)
    with httpx2.Client(timeout=30, trust_env=False, limits=httpx2.Limits(max_connections=None)) as http:
        began = time.monotonic()

        def call(number: int) -> tuple[float, bool]:
            answer = http.post(f"{sample_url}/quote", json=order(number))
            return time.monotonic() - began, answer.status_code == 200

        answers = _together(call, requests)
    quotes = sorted(at for at, is_quote in answers if is_quote)
    refused = sorted(at for at, is_quote in answers if not is_quote)
    after = _refused(sample_url) - before
    return Burst(requests=requests, taken=quotes, refused=refused, quotes=quotes, refused_by_downstream=after)


def through(client: Client, sample_url: str, requests: int, progress: Progress) -> Burst:
    """The same callers submit the same requests as jobs, at once, and wait for their quotes."""
    before = _refused(sample_url)
    began, began_at = time.monotonic(), time.time()

    def submit(number: int) -> tuple[float, Job]:
        job = client.submit("quote", order(number))
        return time.monotonic() - began, job

    submitted = _together(submit, requests)
    quotes: list[float] = []
    for done, (_, job) in enumerate(submitted, 1):
        end = job.wait()
        if end.state is State.SUCCEEDED and end.finished_at:
            quotes.append(end.finished_at.timestamp() - began_at)
        progress(done)
    return Burst(
        requests=requests,
        taken=sorted(at for at, _ in submitted),
        refused=[],
        quotes=sorted(quotes),
        refused_by_downstream=_refused(sample_url) - before,
    )


def order(number: int) -> dict[str, str | int]:
    """What the caller of this number asks for."""
    return {"sku": f"A-{number}", "quantity": number % 9 + 1}


def _together(call: Callable[[int], Value], requests: int) -> list[Value]:
    ready = threading.Barrier(min(AT_ONCE, requests))

    def start(number: int) -> Value:
        if number < ready.parties:
            ready.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(ready.parties) as callers:
        return list(callers.map(start, range(requests)))


def _refused(sample_url: str) -> int:
    stats = httpx2.get(f"{sample_url}/stats", trust_env=False, timeout=30).json()
    return int(stats["refused_rate"] + stats["refused_concurrency"])
