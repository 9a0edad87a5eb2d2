"""The tables of docs/ that are made from the code: they are what the code says now."""

import inspect
import re

import pytest
from pydantic import BaseModel

from config.operations_tables import DownstreamTable, OperationTable, RetryTable
from config.settings import PREFIX, Settings
from tests.support import reference
from tidegate.operations.python_operation import operation

TABLES: list[type[BaseModel]] = [DownstreamTable, OperationTable, RetryTable]


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_page_is_what_the_code_says(page: str) -> None:
    told = "run: python -m tests.support.described"
    made = reference.made_anew(page, reference.PAGES[page])
    assert (reference.DOCS / page).read_text(encoding="utf-8") == made, told


@pytest.mark.parametrize("declared", [Settings, *TABLES])
def test_everything_that_can_be_set_has_a_meaning(declared: type[BaseModel]) -> None:
    assert [name for name, field in declared.model_fields.items() if not field.description] == []


def test_each_setting_has_a_line_with_its_type_bounds_and_default() -> None:
    lines = reference.settings_table().splitlines()[2:]

    assert [line.split("`")[1] for line in lines] == [PREFIX + name.upper() for name in Settings.model_fields]
    assert "| `TIDEGATE_PORT` | whole number, 1 to 65,535 | `8000` | Port that the web server listens on. |" in lines
    assert any(line.startswith("| `TIDEGATE_AUTH` | `off`, `keys` | `off` |") for line in lines)
    assert any(line.startswith("| `TIDEGATE_RETENTION` | duration | `7d` |") for line in lines)


def test_each_key_of_the_operations_file_has_a_line_with_its_type_bounds_and_default() -> None:
    for declared in TABLES:
        lines = reference.keys_table(declared).splitlines()[2:]
        assert [line.split("`")[1] for line in lines] == list(declared.model_fields)
    lines = reference.keys_table(RetryTable).splitlines()
    assert "| `attempts` | whole number, 1 to 100 | `5` | Calls at the most, the first one included. |" in lines
    assert any("| `url` | text | required |" in line for line in reference.keys_table(OperationTable).splitlines())


def test_a_page_without_a_place_for_its_table_is_named() -> None:
    with pytest.raises(AssertionError, match=r"docs/settings\.md has no place for another"):
        reference.made_anew("settings.md", {"another": lambda: ""})


def test_the_page_of_operations_in_python_has_every_argument_with_its_default() -> None:
    page = (reference.DOCS / "python-operations.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    arguments = {name: each for name, each in inspect.signature(operation).parameters.items() if name != "function"}

    assert list(shown) == list(arguments)
    for name, argument in arguments.items():
        if argument.default is not None:
            value = argument.default if isinstance(argument.default, bool) else f'"{argument.default}"'
            assert shown[name] == f"`{value}`"
