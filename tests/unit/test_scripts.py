"""The shell scripts end with an error only for what failed."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SCRIPTS = [_ROOT / ".ci" / "run", *sorted((_ROOT / "config" / "stack").glob("*.sh"))]

# These read no more than they need: whoever still writes to them then dies of SIGPIPE, once in some fifty times, and
# under pipefail that is the end of the script, with exit code 141.
_LEAVES_EARLY = re.compile(r"\|\s*(head\b|grep\s+(-\w*q|--quiet|-\w*m)|sed\b[^|]*\bq\b)")


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda script: script.name)
def test_no_pipe_of_a_script_ends_in_a_reader_that_leaves_early(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    if "pipefail" in text:
        assert [line for line in text.splitlines() if _LEAVES_EARLY.search(line)] == []
