"""What a JSON merge patch may change: rates, burst and concurrency of a downstream, or of one of its partitions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator

from tidegate.dispatch.limits import UNLIMITED
from tidegate.rate import read_rate
from webapp.http.numbers import WHOLE

MERGE_PATCH = frozenset({"application/json", "application/merge-patch+json"})
"""The types that its body may have."""


def _as_list(value: object) -> object:
    if value == UNLIMITED:
        return []
    return value if isinstance(value, list) else [value]


def _unless_unlimited(value: object, check: ValidatorFunctionWrapHandler) -> object:
    return value if value == UNLIMITED else check(value)


_RATE = "^([1-9][0-9]{0,8}/(([1-9][0-9]{0,3})?[sm]|([1-9][0-9]?)?h|[1-9]?d)|0[.][1-9]/[smh])$"
_Text = Annotated[str, Field(json_schema_extra={"pattern": _RATE, "examples": ["50/s", "100/15m"]})]


class CalendarRate(BaseModel):
    """A rate whose windows begin by the clock of a time zone; they are a day long or go into one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rate: _Text
    window: Literal["calendar"]
    zone: Annotated[str, Field(examples=["Europe/Berlin"])]


_Rate = Annotated[str, BeforeValidator(read_rate, json_schema_input_type=_Text | CalendarRate)]
_Several = Annotated[list[_Rate], Field(max_length=5)]
Rates = Annotated[_Several, BeforeValidator(_as_list, json_schema_input_type=_Several | _Rate | Literal["unlimited"])]
Burst = Annotated[int, Field(ge=1, le=100_000), WHOLE]
# Not a union type: its faults would have the pointer "/concurrency/int".
Concurrency = Annotated[Burst, WrapValidator(_unless_unlimited, json_schema_input_type=Burst | Literal["unlimited"])]


def without_defaults(schema: dict[str, Any]) -> None:
    """What a merge patch leaves out stays as it is, so no member has a default in the JSON Schema."""
    for member in schema["properties"].values():
        del member["default"]
