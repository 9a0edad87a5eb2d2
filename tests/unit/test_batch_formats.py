"""Batches over HTTP: the request of each format, and what each job's outcome is by the answer."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidegate.errors import InvalidInput, MalformedBody
from tidegate.operations.batch_formats import BatchFormat, HttpBatch, with_quotas
from tidegate.operations.http_answer import Answer, AnswerRules, Headers
from tidegate.operations.operation import JSON, Body, Member
from tidegate.operations.outcome import (
    BatchOutcome,
    ErrorCode,
    Failed,
    HandedBack,
    Outcome,
    Refused,
    Split,
    Succeeded,
    TryAgain,
)
from tidegate.operations.quota_fields import Quota

IDS = [f"0189d2f8-5c00-7000-8000-00000000000{number}" for number in (1, 2, 3)]
"""Of jobs that were submitted at one instant."""
NOW = datetime(2026, 12, 24, 17, tzinfo=UTC)
RULES = AnswerRules(retried=frozenset({500}), full_on=frozenset({403}))


def members(*inputs: str) -> list[Member]:
    given = enumerate(inputs or ('{"a": 1}', "2", "3"))
    return [Member(job_id=IDS[place], number=place + 1, body=Body(content=text.encode())) for place, text in given]


def batch(kind: str) -> HttpBatch:
    return HttpBatch(max=10, format=BatchFormat(kind))


def request(kind: str, *inputs: str) -> str:
    made = batch(kind).request(members(*inputs), "embed", NOW)
    assert made.content_type == JSON
    return made.content.decode()


def outcomes(
    kind: str, content: str | bytes, *, status: int = 200, rules: AnswerRules = RULES
) -> BatchOutcome | Failed:
    content = content.encode() if isinstance(content, str) else content
    answer = Answer(status=status, headers=Headers([(b"content-type", b"application/json")]), content=content)
    return batch(kind).outcomes(answer, members(), rules, max_result=1000)


def each(kind: str, content: str, *, rules: AnswerRules = RULES) -> Sequence[Outcome]:
    of_it = outcomes(kind, content, rules=rules)
    assert isinstance(of_it, Sequence), of_it
    return of_it


def done(text: str) -> Succeeded:
    return Succeeded(content=text.encode(), content_type=JSON, is_json=True)


def test_an_array_has_each_input_as_it_is_written() -> None:
    assert request("array", ' {"price": 9.90} ', "123456789012345678901234567890", '"\\u00fc"') == (
        '[ {"price": 9.90} ,123456789012345678901234567890,"\\u00fc"]'
    )


def test_an_answer_in_an_array_is_one_result_for_each_as_it_is_written() -> None:
    assert each("array", '\n[ {"v": [0.10, 1e300, 18446744073709551617] } ,\t"[,]", null ]\n') == (
        done('{"v": [0.10, 1e300, 18446744073709551617] }'),
        done('"[,]"'),
        done("null"),
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1, 2]", "2 results for 3 inputs"),
        ("[]", "0 results for 3 inputs"),
        ('{"0": 1}', "it has to be a list"),
        ("<p>welcome</p>", "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[1, 2, NaN]", "Invalid JSON"),
        ("[" * 100_000 + "]" * 100_000, "Invalid JSON"),
        ("[1, 2, " + "9" * 5000 + "]", "Invalid JSON"),
        (b"\xff[1, 2, 3]", "Invalid JSON"),
    ],
)
def test_an_answer_that_is_no_array_of_the_same_length_fails_the_whole(content: str | bytes, told: str) -> None:
    outcome = outcomes("array", content)

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.detail["downstream_status"]) == (ErrorCode.DOWNSTREAM_ERROR, 200)
    assert told in outcome.message


def test_what_means_no_is_looked_for_in_each_item() -> None:
    first, second, third = each("array", '[{"error": "no"}, {"error": ""}, 1]', rules=rules_of("error"))

    assert isinstance(first, Failed)
    assert (first.message, first.detail["downstream_body"]) == (
        "the downstream answered 200 with something at /error",
        '{"error": "no"}',
    )
    assert (second, third) == (done('{"error": ""}'), done("1"))


def rules_of(*fail_when: str) -> AnswerRules:
    return AnswerRules(retried=frozenset({500}), fail_when=fail_when)


@pytest.mark.parametrize("kind", ["array", "results", "sqs"])
@pytest.mark.parametrize(
    ("status", "kind_of_outcome"), [(429, Refused), (503, Refused), (500, TryAgain), (400, Failed), (302, Failed)]
)
def test_a_status_of_the_whole_means_what_it_does_for_one_job(kind: str, status: int, kind_of_outcome: type) -> None:
    outcome = outcomes(kind, "[1, 2, 3]", status=status)

    assert isinstance(outcome, kind_of_outcome)


def test_results_are_asked_for_by_id() -> None:
    assert request("results", '{"price": 9.90}', "2") == (
        f'{{"requests":[{{"id":"{IDS[0]}","body":{{"price": 9.90}}}},{{"id":"{IDS[1]}","body":2}}]}}'
    )


def results(*told: dict[str, Any]) -> str:
    return json.dumps({"results": told, "took": 3})


def test_each_result_is_judged_by_the_operations_own_rules_whatever_their_order() -> None:
    text = f'{{"results": [{{"id": "{IDS[2]}", "status": 201, "body": {{"v": 0.10}}, "more": 1}},'
    text += f'{{"status": 404, "id": "{IDS[0]}", "body": "no such sku"}}, {{"id": "{IDS[1]}", "status": 204}}]}}'
    first, second, third = each("results", text)

    assert first == Failed(
        code=ErrorCode.DOWNSTREAM_ERROR,
        message="the downstream answered 404",
        detail={
            "downstream_status": 404,
            "downstream_content_type": JSON,
            "downstream_body": '"no such sku"',
        },
    )
    assert second == done("null"), "it said that it is done, and no more"
    assert third == done('{"v": 0.10}')


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Refused), (503, Refused), (500, TryAgain), (403, Failed), (301, Failed), (100, Failed), (599, Failed)],
)
def test_a_result_may_be_a_failure_of_each_kind(status: int, kind: type) -> None:
    told = results(*[{"id": each, "status": status, "body": 1} for each in IDS])

    assert all(isinstance(outcome, kind) for outcome in each("results", told))


def test_what_means_no_is_looked_for_in_the_body_of_each_result() -> None:
    told = results(*[{"id": name, "status": 200, "body": {"error": name == IDS[1]}} for name in IDS])

    assert [type(outcome) for outcome in each("results", told, rules=rules_of("error"))] == [
        Succeeded,
        Failed,
        Succeeded,
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([], "has no results for this job"),
        ([{"id": "another", "status": 200}], "has no results for this job"),
        ([{"status": 200}], "has no results for this job"),
        ([{"id": 1, "status": 200}], "has no results for this job"),
        ([{"id": IDS[1], "status": 200}, {"id": IDS[1], "status": 400}], "has 2 results for this job"),
        ([{"id": IDS[1]}], "has no status for this job"),
        ([{"id": IDS[1], "status": "200"}], "has no status for this job"),
        ([{"id": IDS[1], "status": 99}], "has no status for this job"),
        ([{"id": IDS[1], "status": 600}], "has no status for this job"),
        ([{"id": IDS[1], "status": 200.0}], "has no status for this job"),
        ([{"id": IDS[1], "status": None}], "has no status for this job"),
    ],
)
def test_a_job_without_one_result_is_tried_again_and_no_other(told: list[dict[str, Any]], message: str) -> None:
    others = [{"id": name, "status": 200, "body": 1} for name in (IDS[0], IDS[2])]
    first, second, third = each("results", results(*told, *others))

    assert isinstance(second, TryAgain)
    assert message in second.message
    assert (first, third) == (done("1"), done("1"))


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"results": {}}', '{"results": [1]}', '{"results": [], "results": []}', "no", ""]
)
def test_an_answer_without_results_fails_the_whole(content: str) -> None:
    outcome = outcomes("results", content)

    assert isinstance(outcome, Failed)
    assert outcome.message.startswith("the downstream's answer is not one to a batch: ")


def test_an_event_of_sqs_is_complete() -> None:
    text = 'order="Ü"\n'
    first, second, third = json.loads(request("sqs", text, "{}", ""))["Records"]

    assert first == {
        "messageId": IDS[0],
        "receiptHandle": f"{IDS[0]}/1",
        "body": text,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1691461639168",
            "SenderId": "tidegate",
            "ApproximateFirstReceiveTimestamp": "1798131600000",
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:embed",
        "awsRegion": "us-east-1",
    }
    assert second["attributes"]["ApproximateReceiveCount"] == "2", "the attempt"
    assert second["attributes"]["ApproximateFirstReceiveTimestamp"] == "1691461639168", "no later than it was"
    assert third["body"] == ""


@pytest.mark.parametrize("job_id", ["a-job", "9c5b94b1-35ad-49bb-b118-8e8fc24abf80"])
def test_an_id_that_does_not_tell_when_the_job_was_submitted_is_as_of_now(job_id: str) -> None:
    made = batch("sqs").request([Member(job_id=job_id, number=2, body=Body(content=b"{}"))], "embed", NOW)

    assert json.loads(made.content)["Records"][0]["attributes"]["SentTimestamp"] == "1798131600000"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "{}",
        '{"batchItemFailures": null}',
        '{"batchItemFailures": []}',
        '{"statusCode": 200}',
        '"processed"',
        "[]",
        '{"results": "mine", "batchItemFailures": []}',
        '{"results": [{"id": 1, "body": 2}, {"body": 3}]}',
        '{"results": [1]}',
    ],
)
def test_what_lambda_takes_for_success_is_success_with_a_result_that_is_null(content: str) -> None:
    assert each("sqs", content) == (done("null"),) * 3


def test_a_message_that_is_reported_is_tried_again_and_no_other() -> None:
    failed = [{"itemIdentifier": IDS[1]}, {"itemIdentifier": IDS[1]}]
    told = {"batchItemFailures": failed, "results": [{"id": IDS[0], "body": {"v": 1.5}}, {"id": IDS[1], "body": 2}]}
    first, second, third = each("sqs", json.dumps(told))

    assert first == done('{"v": 1.5}'), "results may be added"
    assert second == TryAgain(
        code=ErrorCode.DOWNSTREAM_ERROR, message="the downstream has reported that this job failed"
    )
    assert third == done("null")


@pytest.mark.parametrize(
    "content",
    [
        '{"batchItemFailures": [{"itemIdentifier": ""}]}',
        '{"batchItemFailures": [{"itemIdentifier": null}]}',
        '{"batchItemFailures": [{"itemIdentifier": "another"}]}',
        '{"batchItemFailures": [{"itemIdentifer": "0189d2f8-5c00-7000-8000-000000000001"}]}',
        '{"batchItemFailures": ["0189d2f8-5c00-7000-8000-000000000001"]}',
        '{"batchItemFailures": {"itemIdentifier": "0189d2f8-5c00-7000-8000-000000000001"}}',
        '{"batchItemFailures": true}',
        '{"errorMessage": "no", "errorType": "KeyError", "stackTrace": []}',
        "OK",
    ],
)
def test_what_lambda_takes_for_a_failure_of_the_whole_is_tried_in_halves(content: str) -> None:
    outcome = outcomes("sqs", content)

    assert isinstance(outcome, Split)
    assert isinstance(outcome.alone, TryAgain), "as SQS delivers it again"
    assert "the downstream answered 200, and its " in outcome.alone.message


def test_what_means_no_is_looked_for_in_the_whole_answer_of_a_handler() -> None:
    outcome = outcomes("sqs", '{"refused": "all of it"}', rules=rules_of("refused"))

    assert isinstance(outcome, Failed)


@pytest.mark.parametrize("kind", ["array", "results"])
@pytest.mark.parametrize("content", [b"", b"{", b"NaN", b"\xff", b"{} {}", b"\xef\xbb\xbf{}"])
def test_an_input_that_would_break_the_json_of_all_is_refused(kind: str, content: bytes) -> None:
    with pytest.raises(MalformedBody, match="Invalid JSON"):
        batch(kind).check(Body(content=content))
    with pytest.raises(MalformedBody):
        batch(kind).request([*members(), Member(job_id="a", number=1, body=Body(content=content))], "embed", NOW)


def test_an_input_that_is_no_text_is_refused_for_sqs() -> None:
    batch("sqs").check(Body(content="ü, not JSON".encode(), content_type="text/plain"))
    with pytest.raises(InvalidInput) as refused:
        batch("sqs").check(Body(content=b"\xff"))
    assert refused.value.faults[0].detail == "it is no text in UTF-8, which the body of a message has to be"


def test_an_answer_may_be_as_large_as_the_results_together() -> None:
    megabyte = 1024 * 1024
    assert batch("array").largest_answer(3, 1000) == 3000
    assert batch("array").largest_answer(1000, 5 * megabyte) == 64 * megabyte
    assert batch("array").largest_answer(10, 100 * megabyte) == 100 * megabyte


def test_each_outcome_tells_what_the_answer_announced() -> None:
    quotas = (Quota(name="q", left=3, resets_in=timedelta(seconds=1)),)
    again = TryAgain(code=ErrorCode.DOWNSTREAM_ERROR, message="m")

    several = with_quotas((done("1"), again), quotas)
    assert isinstance(several, tuple)
    assert [outcome.quotas for outcome in several if not isinstance(outcome, HandedBack)] == [quotas, quotas]
    for whole in (Split(alone=again), again, Refused(message="m")):
        told = with_quotas(whole, quotas)
        assert not isinstance(told, Sequence | HandedBack)
        assert told.quotas == quotas
    assert with_quotas(HandedBack(reason="r"), quotas) == HandedBack(reason="r")
