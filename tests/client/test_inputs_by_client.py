"""What the Python client takes as an input: models, dataclasses, decimals, dates, UUIDs, enums; and what not."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, RootModel
from pydantic.dataclasses import dataclass as checked_dataclass

from tests.support import clients
from tests.support.http_server import HttpServer, serving
from tests.support.processes import REPOSITORY
from tidegate_client import Client
from tidegate_client.writing import as_json

from .test_client_over_bad_lines import bulk, in_turn, job, lines


class Color(Enum):
    RED = "red"


class Size(StrEnum):
    SMALL = "small"


class Rank(IntEnum):
    FIRST = 1


class Money(Enum):
    CENT = Decimal("0.01")


class Point(NamedTuple):
    x: int
    y: Decimal


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    tags: tuple[str, ...] = ()


@dataclass
class Order:
    id: UUID
    at: datetime
    lines: list[Line] = field(default_factory=list)


class Model(BaseModel):
    name: str
    on: date
    color: Color = Color.RED


@checked_dataclass
class Checked:
    price: Decimal
    model: Model


ID = UUID("01a20aee-db78-76b3-af2a-71a2695c0567")
AT = datetime(2026, 12, 1, 4, 13, 12, 5000, tzinfo=UTC)
MODEL = Model(name="ä", on=date(2026, 12, 1))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("1.10"), "1.10"),
        (Decimal("0.12345678901234567890123456789"), "0.12345678901234567890123456789"),
        (Decimal("1E+2"), "1E+2"),
        (Decimal("-0"), "-0"),
        (Decimal("1E-400"), "1E-400"),
        (Decimal(1000000000000000000000000000000), "1000000000000000000000000000000"),
        (AT, '"2026-12-01T04:13:12.005000+00:00"'),
        (AT.astimezone(timezone(timedelta(hours=5, minutes=30))), '"2026-12-01T09:43:12.005000+05:30"'),
        (datetime(2026, 12, 1), '"2026-12-01T00:00:00"'),  # noqa: DTZ001 - somebody's local time
        (date(2026, 12, 1), '"2026-12-01"'),
        (time(4, 13), '"04:13:00"'),
        (ID, f'"{ID}"'),
        ([Color.RED, Size.SMALL, Rank.FIRST, Money.CENT], '["red", "small", 1, 0.01]'),
        ({ID: 1, Color.RED: 2, date(2026, 12, 1): 3, 7: 4, True: 5, None: 6, Decimal("1.50"): 7, Size.SMALL: 8},
         f'{{"{ID}": 1, "red": 2, "2026-12-01": 3, "7": 4, "true": 5, "null": 6, "1.50": 7, "small": 8}}'),
        (Point(1, Decimal("2.50")), "[1, 2.50]"),
        (MappingProxyType({"a": ID}), f'{{"a": "{ID}"}}'),
        (Line("A", Decimal("3.00")), '{"sku": "A", "price": 3.00, "tags": []}'),
        (Order(ID, AT, [Line("A", Decimal(3), ("x", "y"))]),
         f'{{"id": "{ID}", "at": "{AT.isoformat()}", "lines": [{{"sku": "A", "price": 3, "tags": ["x", "y"]}}]}}'),
        (Order(ID, AT), f'{{"id": "{ID}", "at": "2026-12-01T04:13:12.005000+00:00", "lines": []}}'),
        (MODEL, '{"name":"ä","on":"2026-12-01","color":"red"}'),
        ([MODEL, {}], '[{"name":"ä","on":"2026-12-01","color":"red"}, {}]'),
        (RootModel[list[int]]([1, 2]), "[1,2]"),
        (Checked(Decimal("1.50"), MODEL), '{"price": 1.50, "model": {"name":"ä","on":"2026-12-01","color":"red"}}'),
        ([Decimal("1.5"), 2**70, 1.5, "\u2028", None], '[1.5, 1180591620717411303424, 1.5, "\\u2028", null]'),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_is_written_as_it_is(value: object, written: str) -> None:
    assert as_json(value).content.decode() == written
    json.loads(written)


def test_what_json_knows_is_written_as_before() -> None:
    value = {"a": [1, 1.5, None, True, "ä"], "b": {}, "c": [], 1: (2,), Size.SMALL: Rank.FIRST}
    assert as_json(value).content == json.dumps(value).encode()
    slowly = as_json([value, ID]).content.decode()
    assert slowly == f'[{json.dumps(value)}, "{ID}"]', "and the same piece by piece"


CIRCLE: list[Any] = [1]
CIRCLE.append({"self": CIRCLE})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "the input can't be sent: set has no form in JSON"),
        ({"items": [{"price": {1}}]}, "the input at /items/0/price can't be sent: set has no form in JSON"),
        ({"a/b": {"~": object()}}, "the input at /a~1b/~0 can't be sent: object has no form in JSON"),
        ([1, b"raw"], "the input at /1 can't be sent: bytes has no form in JSON"),
        (bytearray(b"raw"), "the input can't be sent: bytearray has no form in JSON"),
        ([float("nan")], "the input at /0 can't be sent: Out of range float values are not JSON compliant"),
        ({"x": float("-inf")}, "the input at /x can't be sent"),
        ([Decimal("NaN")], "the input at /0 can't be sent: NaN is no number in JSON"),
        ([Decimal("sNaN")], "the input at /0 can't be sent: sNaN is no number in JSON"),
        ([Decimal("-Infinity")], "the input at /0 can't be sent"),
        ({float("nan"): 1}, "can't be sent: Out of range"),
        ({(1, 2): 3}, "the input can't be sent: a key is a tuple"),
        ({"a": {Line("A", Decimal(1)): 3}}, "the input at /a can't be sent: a key is a Line"),
        ({"a": {frozenset(): 3}}, "can't be sent: frozenset has no form in JSON"),
        (timedelta(1), "the input can't be sent: timedelta has no form in JSON"),
        ({"a": Line}, "the input at /a can't be sent: type has no form in JSON"),
        (Model, "the input can't be sent: ModelMetaclass has no form in JSON"),
        (Order(ID, AT, [Line("A", {1})]), "the input at /lines/0/price can't be sent: set has no form in JSON"),  # type: ignore[arg-type]  # wrong
        (RootModel[object](object()), "the input can't be sent: Unable to serialize unknown type"),
        (CIRCLE, "the input at /1/self can't be sent: it stands in itself"),
        ([10**5000], "the input at /0 can't be sent: Exceeds the limit"),
        (iter([1]), "the input can't be sent: list_iterator has no form in JSON"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_can_not_be_sent_is_named_with_its_place(value: object, said: str) -> None:
    with pytest.raises(TypeError) as error:
        as_json(value)
    assert said in str(error.value)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as started:
        yield started


@pytest.fixture(params=clients.KINDS)
def client(server: HttpServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.opened(request.param, server.url, patience=1) as opened:
        yield opened


def test_what_can_not_be_sent_sends_nothing(server: HttpServer, client: Client) -> None:
    with pytest.raises(TypeError, match="the input at /a can't be sent"):
        client.submit("quote", {"a": {1}})
    with pytest.raises(TypeError, match="input 1 at /a can't be sent"):
        client.submit_many("quote", [1, {"a": {1}}])
    assert server.received == []


def test_a_number_that_no_float_holds_goes_in_a_request_of_its_own(server: HttpServer, client: Client) -> None:
    """For the gateway reads the numbers of a bulk submit as floats."""
    in_turn(server, job())
    exact = [{"price": Decimal("19.99")}, {"price": Decimal("0.1234567890123456789")}]
    assert len(client.submit_many("quote", exact, timeout=7)) == 2
    assert [each.body for each in server.received] == [b'{"price": 19.99}', b'{"price": 0.1234567890123456789}']
    assert [each.headers["job-timeout"] for each in server.received] == ["7", "7"]
    with pytest.raises(ValueError, match="Decimal beyond a float"):
        client.submit_many("quote", exact, all_or_none=True)


def test_what_a_float_holds_goes_with_many(server: HttpServer, client: Client) -> None:
    in_turn(server, bulk("job", "job"))
    client.submit_many("quote", [Line("A", Decimal("19.90")), MODEL], timeout=7)
    assert b'{"input": {"sku": "A", "price": 19.90, "tags": []}, "idempotency_key": ' in server.received[0].body
    assert [each["input"] for each in lines(server, 0)][1] == {"name": "ä", "on": "2026-12-01", "color": "red"}
    assert [each["timeout"] for each in lines(server, 0)] == [7, 7]


def test_the_client_does_not_import_pydantic() -> None:
    told = "import sys, tidegate_client; print('pydantic' in sys.modules)"
    command = [sys.executable, "-c", told]
    environment = {"PYTHONPATH": str(REPOSITORY / "client")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
