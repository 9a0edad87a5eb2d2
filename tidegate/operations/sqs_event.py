"""The event that a Lambda function gets from SQS, made of a batch of jobs, and what its handler returns. Pure.

Source: "Using Lambda with Amazon SQS" and "Handling errors for an SQS event source", AWS Lambda Developer Guide.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import orjson

from tidegate.errors import Refusal
from tidegate.operations.json_text import JsonText
from tidegate.operations.operation import Member
from tidegate.operations.typed_input import is_json

REGION, ACCOUNT = "us-east-1", "000000000000"
"""What stands where AWS names itself: handlers take ARNs apart."""
_SENDER = "tidegate"
_TOLD_LENGTH = 100


def event_of(members: Sequence[Member], queue: str, now: datetime) -> bytes:
    """The event, with a record for each job."""
    received = int(now.timestamp() * 1000)
    return orjson.dumps({"Records": [_record(member, queue, received) for member in members]})


def reported(content: bytes, ids: Collection[str]) -> tuple[Collection[str], Mapping[str, bytes]]:
    """Which messages have failed, by what a handler returned, and the results that it added, as JSON.

    Nothing, null, no `batchItemFailures`, and null or an empty list there mean that none has. Raises ValueError for
    what fails the whole batch: what is no JSON, an identifier that is missing, empty or unknown, and the error by which
    Lambda tells that a handler has raised.
    """
    if not content:
        return set(), {}
    if not is_json(content):
        raise ValueError("its answer is no JSON")
    answer = orjson.loads(content)
    if not isinstance(answer, dict):
        return set(), {}
    if {"errorMessage", "errorType"} <= answer.keys():
        raise ValueError(f"its handler has raised {str(answer['errorType'])[:_TOLD_LENGTH]}")
    failures = answer.get("batchItemFailures") or []
    if not isinstance(failures, list):
        raise ValueError("its batchItemFailures are no list")
    failed = set()
    for each in failures:
        identifier = each.get("itemIdentifier") if isinstance(each, dict) else None
        if not isinstance(identifier, str) or identifier not in ids:
            raise ValueError("its batchItemFailures have an itemIdentifier of no message of the batch")
        failed.add(identifier)
    return failed, _results(content) if "results" in answer else {}


def _results(content: bytes) -> Mapping[str, bytes]:
    """`[{"id", "body"}]`. A handler may mean something else by `results`: what can't be read so is none."""
    try:
        found = [each.members() for each in JsonText.of(content).at(["results"]).items()]
    except Refusal:
        return {}
    return {each["id"].string or "": each["body"].text.encode() for each in found if {"id", "body"} <= each.keys()}


def _record(member: Member, queue: str, received: int) -> dict[str, object]:
    sent = _submitted(member.job_id) or received
    body = member.body.content
    return {
        "messageId": member.job_id,
        "receiptHandle": f"{member.job_id}/{member.number}",
        "body": body.decode(),
        "attributes": {
            "ApproximateReceiveCount": str(member.number),
            "SentTimestamp": str(sent),
            "SenderId": _SENDER,
            "ApproximateFirstReceiveTimestamp": str(received if member.number == 1 else sent),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
        "awsRegion": REGION,
    }


def _submitted(job_id: str) -> int | None:
    """When a job was submitted, in milliseconds since 1970: its id, a UUID of version 7, begins with it."""
    try:
        found = UUID(job_id)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 else None
