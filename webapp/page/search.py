"""What the overview's list is searched for: id, state, operation, downstream, error, client, and days."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, ConfigDict, ValidationError, ValidationInfo, field_validator

from tidegate.errors import InvalidQuery
from tidegate.jobs.filter import Filter
from webapp.http.queries import Chosen

FULL_ID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_BEGINNING = re.compile(r"[0-9a-f]{4,32}")
_A_DAY = timedelta(days=1)


def _zone(value: object) -> str:
    return value if isinstance(value, str) and value in available_timezones() else "UTC"


class Search(Chosen):
    """A search, as the form sends it. `since` and `until` are whole days by the clocks of `zone`, both included."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    q: str = ""
    since: date | None = None
    until: date | None = None
    zone: Annotated[str, BeforeValidator(_zone)] = "UTC"

    @field_validator("until")
    @classmethod
    def _check_order(cls, until: date | None, others: ValidationInfo) -> date | None:
        since = others.data.get("since")
        if since and until and until < since:
            raise ValueError("it lies before the first day")
        return until

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Search":
        """Reads a query; raises InvalidQuery. What is left empty is not asked for."""
        try:
            return cls.model_validate({name: value.strip() for name, value in given.items() if value.strip()})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise InvalidQuery(f"{fault['loc'][0]}: {fault['msg'].removeprefix('Value error, ')}") from None

    @property
    def is_narrow(self) -> bool:
        """Whether anything is chosen beside an id."""
        return bool(self.model_dump(exclude_none=True, exclude={"q", "zone", "cursor"}))

    @property
    def goes_far(self) -> bool:
        """Whether anything is chosen of what the form folds away."""
        return any((self.downstream, self.error_code, self.client, self.since, self.until))

    def page(self, client_id: str | None, *, limit: int) -> Filter | None:
        """The filter of jobs, of this client or of all with None; None: no job's id begins so."""
        first, last = None, None
        if self.q:
            found = _ids_beginning_with(self.q)
            if found is None:
                return None
            first, last = found
        chosen = self.filter()
        return replace(
            chosen,
            client_id=client_id,
            created_after=self._midnight(self.since) if self.since else None,
            created_before=self._midnight(self.until + _A_DAY) if self.until and self.until < date.max else None,
            from_id=first,
            before_id=chosen.before_id or last,
            limit=limit,
        )

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time.min, ZoneInfo(self.zone))


def _ids_beginning_with(sought: str) -> tuple[str, str] | None:
    """The range of ids that begin with this text, as (first, one after the last); None: no id begins so."""
    found = FULL_ID.search(sought.lower())
    digits = (found[0] if found else sought.lower()).replace("-", "")
    if not _BEGINNING.fullmatch(digits):
        return None
    return str(UUID(digits.ljust(32, "0"))), str(UUID(digits.ljust(32, "f")))
