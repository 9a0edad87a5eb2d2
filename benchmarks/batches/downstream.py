"""A downstream with a bulk endpoint, that writes down which jobs came in which call.

Run it with `python -m benchmarks.batches.downstream`. As `benchmarks.pacing.downstream`, and its log's lines have the
`members` of the call as well, ids of jobs. A call with one whose input has `"bad": true` is answered 422. The answer to
another has for each what came for it.

The file beside the log with the suffix `.weather`, if there is one, says what is wrong with it: `503`, its answer to
all calls, or `slow=3`, the seconds after which an answer comes at the earliest.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any, TextIO

from benchmarks.pacing.downstream import Service, serve


def weather_of(log: Path) -> Path:
    """The file that says what is wrong with the downstream that keeps this log."""
    return log.with_suffix(".weather")


class BulkService(Service):
    """Takes many jobs in one call (format `results`), or one that is alone."""

    def __init__(self, log: TextIO, weather: Path) -> None:
        super().__init__(log, (), {}, announces=False)
        self._weather = weather
        self._came: dict[int, bytes] = {}

    def arrive(self, lane: str, job: str, at: float, read_at: float, body: bytes) -> dict[str, Any]:
        """The log's line of a call, but for its end."""
        call = super().arrive(lane, job, at, read_at, body)
        wrong = self._weather.read_text() if self._weather.exists() else ""
        self.least_seconds = float(wrong.removeprefix("slow=")) if wrong.startswith("slow=") else 0.0
        document = json.loads(body or b"{}")
        requests = document.get("requests", [{"id": job, "body": document}])
        if wrong == "503":
            call["status"] = 503
        elif any(each["body"].get("bad") for each in requests):
            call["status"] = 422
        members = [each["id"] for each in requests]
        self._came[id(call)] = json.dumps(
            {"results": [{**each, "status": 200} for each in requests]} if "requests" in document else document
        ).encode()
        call["members"] = members
        return call

    def content(self, call: dict[str, Any]) -> bytes:
        """What came, for each job; nothing with a failure."""
        came = self._came.pop(id(call))
        return came if call["status"] == 200 else b"{}"


def main() -> None:
    """Reads where to listen and where to write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches.downstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.log.open("a", buffering=1, encoding="utf-8") as log:
        asyncio.run(serve(arguments.port, BulkService(log, weather_of(arguments.log))))


if __name__ == "__main__":
    main()
