"""What is wrong with an input is told at a bounded price, however much that is."""

import subprocess
import sys

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, field_validator

from tests.support.processes import REPOSITORY
from tidegate.errors import MOST_FAULTS, InvalidInput, MalformedBody
from tidegate.operations.typed_input import parse


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: str | None = None
    parts: "list[Part]" = []

    @field_validator("sku")
    @classmethod
    def _check(cls, value: str) -> str:
        if value.startswith("-"):
            raise ValueError(f"{value} begins with a dash")
        return value


PART = TypeAdapter(Part)
BY_NAME = TypeAdapter(dict[str, Part])

IN_A_PROCESS = """
import resource, sys, time
from pydantic import BaseModel, ConfigDict, TypeAdapter
from tidegate.errors import InvalidInput
from tidegate.operations.typed_input import parse

class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str | None = None

content = eval(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
try:
    parse(TypeAdapter(eval(sys.argv[2])), content)
except InvalidInput as refusal:
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(refusal.count, len(refusal.faults), (after - before) // 1024, time.process_time())
"""


def members(number: int) -> bytes:
    """An object of so many that nobody declared."""
    return b"{" + b",".join(b'"k%06d":1' % each for each in range(number)) + b"}"


@pytest.mark.parametrize(("number", "told"), [(1, 1), (100, 100), (101, 100), (5000, 100)])
def test_at_most_a_hundred_faults_are_told_and_how_many_there_are(number: int, told: int) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(PART, members(number))
    assert (error.value.count, len(error.value.faults), MOST_FAULTS) == (number, told, 100)
    assert [fault.pointer for fault in error.value.faults[:2]] == ["/k000000", "/k000001"][:number]
    assert {fault.detail for fault in error.value.faults} == {"Extra inputs are not permitted"}
    assert f"{number} fault(s)" in str(error.value)
    assert ("these are the first 100" in str(error.value)) is (number > 100)


def test_faults_deep_in_lists_have_their_places_beyond_the_hundred_too() -> None:
    content = b'{"parts":[' + b",".join(b'{"parts":[{"sku":1}]}' for _ in range(500)) + b"]}"
    with pytest.raises(InvalidInput) as error:
        parse(PART, content)
    assert error.value.count == 500
    assert error.value.faults[99].pointer == "/parts/99/parts/0/sku"


@pytest.mark.parametrize("number", [1, 3000])
def test_what_a_fault_says_is_short_whatever_was_sent(number: int) -> None:
    name = b"x" * 10_000
    content = (
        b'{"sku":"-' + name + b'",' + b",".join(b'"%s%d":1' % (name[:1000], each) for each in range(number)) + b"}"
    )
    with pytest.raises(InvalidInput) as error:
        parse(PART, content)
    assert error.value.faults[0].detail.startswith("-xxx")
    assert max(len(fault.pointer) + len(fault.detail) for fault in error.value.faults) <= 1000


def test_a_place_that_is_longer_than_what_is_looked_through_is_not_told() -> None:
    content = b"{" + b",".join(b'"%s%d":1' % (b"x" * 30_000, each) for each in range(120)) + b"}"
    with pytest.raises(InvalidInput) as error:
        parse(PART, content)
    assert 0 < len(error.value.faults) < 100


def test_names_that_are_long_may_be_there_where_they_do_no_harm() -> None:
    long = b"x" * 100_000
    assert parse(BY_NAME, b'{"%s":{"sku":"a"},"b":{"sku":"\\"q\\"%s"}}' % (long, long)).keys() == {long.decode(), "b"}


@pytest.mark.parametrize("escaped", [b"", b'\\"'])
def test_many_members_below_a_long_name_are_refused_before_they_are_read(escaped: bytes) -> None:
    name = escaped.join([b"y" * 200] * 500)
    with pytest.raises(InvalidInput, match=r"1 fault\(s\)") as error:
        parse(BY_NAME, b'{"%s":%s}' % (name, members(10_000)))
    assert "names as long as these" in error.value.faults[0].detail


@pytest.mark.parametrize("content", [b"{" * 50_000, b'{"' + b"x" * 50_000, b'{"\\"' + b"[" * 50_000, b"NaN", b""])
def test_what_is_no_json_is_told_as_that(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(PART, content)


@pytest.mark.parametrize(
    ("content", "shape", "faults", "megabytes"),
    [
        ("""b"{" + b",".join(b'"k%06d":1' % each for each in range(700_000)) + b"}" """, "Part", 700_000, 450),
        ("""b'{"' + b"x" * 100_000 + b'":{' + b",".join(b'"k%06d":1' % n for n in range(10_000)) + b"}}" """,
         "dict[str, Part]", 1, 100),
        ("""b"[" + b",".join([b"[]"] * 1_000_000) + b"]" """, "list[Part]", 1_000_000, 450),
    ],
    ids=["members", "long name", "elements"],
)  # fmt: skip
def test_eight_megabytes_of_faults_cost_little_memory_and_time(
    content: str, shape: str, faults: int, megabytes: int
) -> None:
    """The first took 1.2 GB and 33 s, the second 1 GB for a fortieth of the bytes."""
    command = [sys.executable, "-c", IN_A_PROCESS, content, shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    count, told, grown, seconds = (float(each) for each in done.stdout.split())
    assert (count, told) == (faults, min(faults, 100))
    assert grown < megabytes
    assert seconds < 20
