"""References to the environment: `${NAME}` and `${NAME:-text}` as docker compose reads them, and nothing else."""

from pathlib import Path

import pytest

from config.references import expander, parse_template
from tidegate.errors import ConfigurationError

ENVIRONMENT = {"KEY": "secret", "EMPTY": "", "NESTED": "${KEY}", "_a1": "low"}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${KEY}", "secret"),
        ("Bearer ${KEY}!", "Bearer secret!"),
        ("${KEY}${KEY}", "secretsecret"),
        ("${_a1}", "low"),
        ("${OTHER:-8001}", "8001"),
        ("${OTHER:-}", ""),
        ("${OTHER:--}", "-"),
        ("${OTHER:- a b }", " a b "),
        ("${OTHER:-http://h:1/?a=b}", "http://h:1/?a=b"),
        ("${KEY:-default}", "secret"),
        ("${EMPTY:-default}", "default"),
        ("${NESTED}", "${KEY}"),
        # As compose has them: a text may have references, and each `${` wants its brace.
        ("${OTHER:-${KEY}}", "secret"),
        ("${OTHER:-a${MORE:-b${KEY}c}d}e", "absecretcde"),
        ("${KEY:-${MISSING}}", "secret"),
        ("${OTHER:-{a}b}", "{ab}"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("5 $$ and $${KEY}", "5 $ and ${KEY}"),
        ("$$${KEY}", "$secret"),
        ("${OTHER:-$$}", "$"),
    ],
)
def test_names_in_a_template_are_replaced_once(template: str, value: str) -> None:
    assert expander(ENVIRONMENT)(template) == value


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("Bearer $B", "$B: write ${B} for its value, or $$ for a dollar sign"),
        ("Bearer ${B-none}", "${B-…}: write ${B:-…}"),
        ("Bearer ${ B }", "${ B }: write ${B}, without blanks"),
        ("${B }", "write ${B}, without blanks"),
        ("${A:?message}", "${A:?…}: write ${A}, which must have a value"),
        ("${A?message}", "${A?…}: write ${A}, which must have a value"),
        ("${A:+other}", "${A:+…}: write ${A}, which must have a value, or ${A:-text}"),
        ("${A+other}", "${A+…}: write ${A}"),
        ("${A:b}", "${A:b}: write ${NAME} or ${NAME:-text}"),
        ("${A.B}", "${A.B}: write ${NAME} or ${NAME:-text}"),
        ("${}", "${}: write ${NAME} or ${NAME:-text}"),
        ("${1A}", "${1A}: write ${NAME} or ${NAME:-text}"),
        ("${GRÖSSE}", "${GRÖSSE}: write ${NAME} or ${NAME:-text}"),
        ("${A", "without a closing brace"),
        ("${A:-${B}", "without a closing brace"),
        ("${OTHER:-$B}", "$B: write ${B}"),
        ("100 $", "write $$ for one"),
        ("$1", "write $$ for one"),
        ("$(id)", "write $$ for one"),
        ("$$$", "write $$ for one"),
    ],
)
def test_any_other_dollar_sign_is_refused_with_what_to_write(template: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"\$") as error:
        parse_template(template)

    assert told in str(error.value)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("${KEY} ${MISSING}", ["${MISSING} is not set"]),
        ("${EMPTY}", ["${EMPTY} is empty in the environment; give it a value, or write ${EMPTY:-}"]),
        ("${A}${EMPTY}${OTHER:-${B}}", ["${A} is not set", "${EMPTY} is empty", "${B} is not set"]),
    ],
)
def test_each_missing_name_is_told_and_no_value_is(template: str, told: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        expander(ENVIRONMENT)(template)

    assert [fault.startswith(words) for fault, words in zip(error.value.faults, told, strict=True)] == [True] * len(
        told
    )
    assert "secret" not in str(error.value)


def test_a_value_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")

    assert expander({"KEY_FILE": str(tmp_path / "key")})("Bearer ${KEY:-none}") == "Bearer secret"
