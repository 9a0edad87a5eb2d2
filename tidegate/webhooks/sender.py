"""Sends one delivery: claims it, writes and signs its body, posts it, records the outcome."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random, SystemRandom

import httpcore2
import orjson

from tidegate import clock, tracing
from tidegate.database.connection import UNREACHABLE
from tidegate.jobs.document import Links, document_of
from tidegate.jobs.job import Job, StoredBody
from tidegate.log_context import about, trace_id
from tidegate.notify.notifier import Notifier
from tidegate.operations.deadline_network import ends_at
from tidegate.operations.http_url import HttpUrl
from tidegate.operations.own_shortage import own_shortage
from tidegate.operations.quota_fields import read_quota_fields
from tidegate.operations.tls import tls_context
from tidegate.timeformat import instant
from tidegate.webhooks.delivery import DeliveryClaim, Sent
from tidegate.webhooks.egress import Egress
from tidegate.webhooks.guarded_network import GuardedBackend, NotPublicError
from tidegate.webhooks.secret_store import SecretStore
from tidegate.webhooks.send_store import SendingStore
from tidegate.webhooks.signing import sign
from tidegate.webhooks.url import check, parse

log = logging.getLogger(__name__)

LARGEST_RESULT = 256 * 1024
_FIRST_DELAY = timedelta(seconds=5)
_LONGEST_DELAY = timedelta(hours=4)
_LONGEST_REST = timedelta(minutes=5)
_LONGEST_SILENCE_SECONDS = 60
_LEASE_MARGIN = timedelta(seconds=10)
# The answer's body is read up to so much, so that the receiver can end in order, and thrown away.
_MOST_READ_BYTES = 64 * 1024
_MOST_READ_SECONDS = 1.0
_RECORD_AGAIN_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0)
_RANDOM = SystemRandom()
_NO_ANSWER = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError)


class Sender:
    """Sends the deliveries that messages name.

    `timeout`: of one attempt, in total, from the name's look-up to the answer's head. `ca_file`: certificates of
    authorities that are trusted beside the system's.
    """

    def __init__(
        self,
        store: SendingStore,
        secrets: SecretStore,
        egress: Egress,
        *,
        timeout: timedelta,
        notifier: Notifier,
        ca_file: Path | None = None,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._egress = egress
        self._backend = GuardedBackend(egress)
        self._timeout = timeout
        self._notifier = notifier
        self._ca_file = ca_file

    def run(self, job_id: str, fence: int) -> bool:
        """Makes one attempt; False when this release no longer stands and nothing was sent.

        What can't be claimed or recorded because the database is away is due again when its lease has run out.
        """
        with about(job_id=job_id):
            return self._run(job_id, fence)

    def _run(self, job_id: str, fence: int) -> bool:
        try:
            claim = self._store.claim(job_id, fence, lease=self._timeout + _LEASE_MARGIN)
            told = self._store.read_ended_job(job_id, largest=LARGEST_RESULT)
            if claim is None or told is None:
                log.info("delivery %s: release %d no longer stands", job_id, fence)
                return False
            secrets = self._secrets.signing(claim.client_id)
        except UNREACHABLE as error:
            log.warning("delivery %s: the database can't be reached, not sent: %s", job_id, error)
            return False
        job, result = told
        what = {"job.id": job_id, "event": claim.event}
        receiver = claim.receiver.partition(" ")[2]
        with about(attempt=claim.number, downstream=receiver, trace_id=trace_id(job.traceparent)):
            with tracing.span("webhook", parent=job.traceparent, kind="client", attempt=claim.number, **what) as span:
                sent = self._send(claim, body_of(claim, job, result), secrets)
                span.note("tidegate.outcome", sent.outcome)
                if not sent.is_delivered:
                    span.fail(sent.outcome)
            self._record(claim, sent)
        self._notifier.wake_scheduler()
        return True

    def _send(self, claim: DeliveryClaim, body: bytes, secrets: Sequence[bytes]) -> Sent:
        if not secrets:
            return Sent(seconds=0, was_sent=False, error="no secret to sign with: POST /v1/webhook-secrets makes one")
        try:
            url = parse(claim.url)
            check(url, self._egress)
        except ValueError as error:
            return Sent(seconds=0, was_sent=False, error=f"its URL can't be used any more: {error}")
        started = clock.monotonic()
        timestamp = int(clock.now().timestamp())
        headers = {
            "host": url.host_field,
            "content-type": "application/json",
            "user-agent": "tidegate",
            "accept": "*/*",
            "webhook-id": claim.job_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(claim.job_id, timestamp, body, secrets),
        }
        try:
            with ends_at(started + self._timeout.total_seconds()):
                status, retry_after = self._post(url, headers, body)
        except NotPublicError as error:
            return Sent(seconds=clock.monotonic() - started, was_sent=False, error=str(error))
        except (*_NO_ANSWER, MemoryError, RuntimeError) as error:
            return _unanswered(claim, error, clock.monotonic() - started)
        error_text = None if 200 <= status < 300 else _told(status)
        return Sent(
            seconds=clock.monotonic() - started,
            status=status,
            error=error_text,
            retry_after=retry_after,
        )

    def _post(self, url: HttpUrl, headers: dict[str, str], body: bytes) -> tuple[int, timedelta | None]:
        """Posts the webhook on a connection of its own; returns the answer's status and how long it asks to rest."""
        with (
            httpcore2.HTTPConnection(
                httpcore2.Origin(url.scheme.encode(), url.host.encode(), url.port),
                ssl_context=tls_context(*([self._ca_file] if self._ca_file else [])),
                network_backend=self._backend,
            ) as connection,
            connection.stream(
                "POST",
                httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
                headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
                content=body,
            ) as response,
        ):
            _read_some(response)
            return response.status, read_quota_fields(response.headers, clock.now()).rest

    def _record(self, claim: DeliveryClaim, sent: Sent) -> None:
        again_after, rest = next_try(claim, sent), rest_after(claim, sent)
        told = f"{sent.status or sent.error} in {sent.seconds:.2f} s"
        for wait in (*_RECORD_AGAIN_SECONDS, None):
            try:
                won = self._store.record(claim, sent, again_after=again_after, rest=rest)
            except UNREACHABLE as error:
                log.warning("delivery %s: the database can't be reached: %s", claim.job_id, error)
                if wait is None:
                    log.warning("delivery %s: %s, not recorded; it is sent again", claim.job_id, told)
                    return
                clock.sleep(wait)
            else:
                level = logging.INFO if sent.is_delivered and won else logging.WARNING
                late = "" if won else "; too late, it is another's"
                log.log(level, "delivery %s: attempt %d: %s%s", claim.job_id, claim.number, told, late)
                return


def body_of(claim: DeliveryClaim, job: Job, result: StoredBody | None) -> bytes:
    """The webhook's body: the payload of Standard Webhooks. The same bytes at every attempt, for the job is final."""
    return orjson.dumps(
        {
            "type": claim.event,
            "timestamp": instant(claim.created_at),
            "data": document_of(job, Links(base=claim.base_url, signer=None), result),
        }
    )


def next_try(claim: DeliveryClaim, sent: Sent, random: Random = _RANDOM) -> timedelta | None:
    """The delay until the next attempt; None: there is none.

    5 s, 20 s, 80 s … 4 h, each a quarter more or less, so that what failed together does not come back together; the
    last one when a day is over. A receiver's Retry-After is waited for.
    """
    if sent.is_delivered or sent.is_unwanted or claim.left <= timedelta(0):
        return None
    growth: int = 4 ** min(claim.tries - 1, 10)
    delay = min(_FIRST_DELAY * growth, _LONGEST_DELAY) * random.uniform(0.75, 1.25)
    return min(max(delay, sent.retry_after or timedelta(0)), claim.left)


def rest_after(claim: DeliveryClaim, sent: Sent) -> timedelta | None:
    """How long nothing at all goes to the receiver; None: it is not paused.

    Because it asked for that, or because it is silent (1 s, 2 s, … 1 min).
    """
    if not sent.was_sent:
        return None
    if sent.status is None:
        seconds: int = 2 ** min(claim.receiver_failures or 0, 6)
        return timedelta(seconds=min(seconds, _LONGEST_SILENCE_SECONDS))
    if sent.status in {429, 503} and sent.retry_after:
        return min(sent.retry_after, _LONGEST_REST)
    return None


def _unanswered(claim: DeliveryClaim, error: Exception, seconds: float) -> Sent:
    """What a webhook without an answer means: a shortage of this process says nothing about the receiver."""
    if what := own_shortage(error):
        log.warning("delivery %s: this process is short of %s; not sent", claim.job_id, what)
        return Sent(seconds=seconds, was_sent=False, error="it could not be sent: the gateway is short of resources")
    if not isinstance(error, _NO_ANSWER):
        raise error
    if isinstance(error, httpcore2.TimeoutException):
        return Sent(seconds=seconds, error="no answer in time")
    return Sent(seconds=seconds, error=f"{type(error).__name__}: {error}")


def _read_some(response: httpcore2.Response) -> None:
    """Reads the answer's body for a moment and drops it; it may neither hold the thread nor fail the delivery."""
    size = 0
    try:
        with ends_at(clock.monotonic() + _MOST_READ_SECONDS):
            for chunk in response.iter_stream():
                size += len(chunk)
                if size > _MOST_READ_BYTES:
                    return
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        log.debug("the answer's body was not read to its end: %s", error)


def _told(status: int) -> str:
    if 300 <= status < 400:
        return "redirects are not followed"
    return "the receiver wants no more of this" if status == 410 else "the receiver did not take it"
