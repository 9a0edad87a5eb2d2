"""Which operations the modules of TIDEGATE_OPERATIONS bring along, and how each fault of one is told."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.modules import load_operations
from config.registry import load_registry, load_registry_with_secrets
from config.settings import Settings
from tidegate.errors import ConfigurationError

OWN = {"csv_profile"}
MINIMAL = '[operations.quote]\nurl = "http://127.0.0.1/quote"\n'
OPERATION = """\
from tidegate.operations.python_operation import operation


@operation({options})
def {name}(params: int) -> int:
    return params
"""


def operation_text(name: str, options: str = "") -> str:
    return OPERATION.format(name=name, options=options)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Writes a module where imports find it; all are forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield make
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in {"acme", "acme_ops", "helper", "other"}:
            del sys.modules[name]


Write = Callable[[str, str], Path]


def names_of(*modules: str) -> list[str]:
    """The operations beside our own; there is no fault."""
    operations, faults = load_operations(modules)
    assert faults == []
    return [operation.name for operation in operations if operation.name not in OWN]


def faults_of(*modules: str) -> list[str]:
    return load_operations(modules)[1]


def test_our_own_are_always_there() -> None:
    operations, faults = load_operations(())

    assert ({operation.name for operation in operations}, faults) == (OWN, [])


def test_a_package_has_what_it_exports(write: Write) -> None:
    write("acme_ops/__init__.py", "from acme_ops.geocode import geocode\nfrom .route import route as best_route\n")
    write("acme_ops/geocode.py", operation_text("geocode"))
    write("acme_ops/route.py", operation_text("route") + operation_text("unexported"))

    assert names_of("acme_ops") == ["geocode", "route"]


def test_what_a_module_keeps_to_itself_is_not_taken_and_what_it_declares_is(write: Write) -> None:
    write("other.py", operation_text("listed") + operation_text("kept") + operation_text("unlisted"))
    write(
        "acme.py",
        "from other import listed, unlisted\nfrom other import kept as _kept\n__all__ = ['listed']\n"
        + operation_text("own"),
    )

    assert sorted(names_of("acme")) == ["listed", "own"]

    write("acme_ops.py", "from other import unlisted\nfrom other import kept as _kept\n")
    assert names_of("acme_ops") == ["unlisted"]


@pytest.mark.parametrize(
    "modules",
    [("acme", "acme"), ("acme", "acme.prices"), ("acme.prices", "acme"), ("acme.prices", "other"), ("acme", "other")],
)
def test_one_operation_is_there_once_whoever_names_it(write: Write, modules: tuple[str, ...]) -> None:
    write("acme/__init__.py", "from acme.prices import price\nprice_too = price\n")
    write("acme/prices.py", operation_text("price"))
    write("other.py", "from acme.prices import price\n")

    assert names_of(*modules) == ["price"]


def test_a_module_that_declares_none_says_so_and_where_they_may_be(write: Write) -> None:
    write("acme/__init__.py", "")
    write("acme/prices.py", operation_text("price"))
    other = write("other.py", "def price(params: int) -> int:\n    return params\n")

    package, module = faults_of("acme", "other")

    assert "acme declares no operation" in package
    assert "import it into the package, or name the module that has it, such as acme.prices" in package
    assert (
        module
        == f"{other}:1: other declares no operation: put @operation() on a function; TIDEGATE_OPERATIONS names it"
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no.such", "there is no module no.such"),
        ("acme.prizes", "there is no module acme.prizes"),
        ("acme.prices.price", "there is no module acme.prices.price"),
        ("acme/prices.py", "'acme/prices.py' is no name of a module"),
        ("./acme", "is no name of a module"),
        (".acme", "is no name of a module"),
        ("acme..prices", "is no name of a module"),
        ("acme prices", "is no name of a module"),
        ("acme;prices", "is no name of a module"),
    ],
)
def test_a_module_that_is_not_there_is_told_with_its_setting(write: Write, name: str, told: str) -> None:
    write("acme/__init__.py", "")
    write("acme/prices.py", operation_text("price"))

    (fault,) = faults_of(name)

    assert fault.startswith("TIDEGATE_OPERATIONS: ")
    assert told in fault


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("\nimport nowhere\n", 2, "ModuleNotFoundError: No module named 'nowhere'"),
        ("from os import nowhere\n", 1, "ImportError: cannot import name 'nowhere' from 'os'"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError: invalid syntax"),
        ("def f():\nreturn 1\n", 2, "IndentationError: expected an indented block"),
        ("\n\n\n1 / 0\n", 4, "ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('a\\nb')\n\nf()\n", 2, "ValueError: a b"),
        ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: Expecting property name"),
        ("from tidegate.operations.operation import Attmpt\n", 1, "ImportError: cannot import name 'Attmpt'"),
        (operation_text("f", "rety=3"), 4, "TypeError: operation() got an unexpected keyword argument 'rety'"),
        ("exec('1 +')\n", 1, "SyntaxError: invalid syntax"),
        ("assert False\n", 1, "AssertionError"),
    ],
)
def test_what_a_module_raises_is_told_in_one_line_with_file_and_line(
    write: Write, text: str, line: int, told: str
) -> None:
    path = write("acme.py", text)

    for _ in range(2):
        (fault,) = faults_of("acme")

        assert fault.startswith(f"{path}:{line}: {told}")
        assert "\n" not in fault


def test_what_a_module_deeper_down_raises_is_told_with_both_places(write: Write) -> None:
    acme = write("acme.py", "\nimport helper\n")
    helper = write("helper.py", "\n\nx = undefined\n")

    assert faults_of("acme") == [f"{acme}:2: NameError: name 'undefined' is not defined (raised in {helper}:3)"]


def test_a_syntax_error_deeper_down_is_told_where_it_is(write: Write) -> None:
    write("acme/__init__.py", "from acme import prices\n")
    prices = write("acme/prices.py", "price =\n")

    assert faults_of("acme") == [f"{prices}:1: SyntaxError: invalid syntax"]


def test_every_bad_declaration_of_every_module_is_told(write: Write) -> None:
    one, two, three = '@operation(queue="GPU")', '@operation(timeout="soon", max_body=-1)', "@operation()"
    start = "from tidegate.operations.python_operation import operation\n"
    acme = write(
        "acme.py",
        f"{start}\n{one}\ndef one(params: int) -> int: ...\n\n{two}\ndef two(params: int) -> int: ...\n"
        f"\n{three}\ndef good(params: int) -> int: ...\n",
    )
    other = write("other.py", f"{start}\n\n{three}\nasync def three(params: int) -> int: ...\n")

    for _ in range(2):  # a module that was loaded before has the same faults
        assert [fault.rpartition(": operation ")[0] for fault in faults_of("acme", "other")] == [
            *(f"{acme}:3", f"{acme}:6", f"{acme}:6", f"{other}:4"),
        ]


def test_a_bad_declaration_in_a_module_that_another_imports_is_told_once(write: Write) -> None:
    write("acme.py", "from other import three\n")
    other = write("other.py", operation_text("three", "paced='never'"))

    (fault,) = faults_of("acme", "other")
    assert fault.startswith(f"{other}:4: operation three: paced: ")


def settings_of(folder: Path, text: str, *modules: str, **values: Any) -> Settings:
    (folder / "operations.toml").write_text(text)
    return Settings(operations_file=folder / "operations.toml", operations=modules, _env_file=None, **values)


def test_python_operations_stand_beside_those_of_the_file(tmp_path: Path) -> None:
    registry = load_registry(settings_of(tmp_path, MINIMAL, "tests.support.operations"))

    assert {"quote", "echo", "csv_profile"} <= set(registry.operations)
    assert set(registry.downstreams) >= {"quote", "echo"}


def test_only_workers_need_the_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUOTE_KEY", raising=False)
    current = settings_of(tmp_path, f'{MINIMAL}headers = {{ Authorization = "Bearer ${{QUOTE_KEY}}" }}\n')

    assert "quote" in load_registry(current).operations
    with pytest.raises(
        ConfigurationError, match=r"operations.toml:3: operations.quote.headers.Authorization: \$\{QUOT"
    ):
        load_registry_with_secrets(current)


def test_a_name_that_stands_twice_is_refused_with_both_places(write: Write, tmp_path: Path) -> None:
    acme = write("acme.py", operation_text("quote") + operation_text("same"))
    other = write("other.py", operation_text("same"))

    with pytest.raises(ConfigurationError) as error:
        load_registry(settings_of(tmp_path, MINIMAL, "acme", "other"))

    too = "has an operation of this name, too; rename one"
    assert error.value.faults == (
        f"{acme}:4: operation quote: {tmp_path}/operations.toml:1 {too}",
        f"{other}:4: operation same: {acme}:10 {too}",
    )


def test_a_downstream_that_a_function_names_and_nobody_declares_is_refused(write: Write, tmp_path: Path) -> None:
    acme = write("acme.py", operation_text("price", "downstream='geocodr'"))

    with pytest.raises(ConfigurationError) as error:
        load_registry(settings_of(tmp_path, f"[downstreams.geocoder]\n{MINIMAL}", "acme"))

    (fault,) = error.value.faults
    assert fault.startswith(
        f"{acme}:4: operation price: its downstream 'geocodr' is declared nowhere (did you mean 'geoco"
    )
    assert f"write [downstreams.geocodr] into {tmp_path}/operations.toml" in fault


def test_faults_of_file_and_modules_are_told_together(write: Write, tmp_path: Path) -> None:
    acme = write("acme.py", "1 / 0\n")

    with pytest.raises(ConfigurationError) as error:
        load_registry(settings_of(tmp_path, f"{MINIMAL}speed = 1\n", "acme", "no.such"))

    assert [fault.partition(": ")[0] for fault in error.value.faults] == [
        f"{tmp_path}/operations.toml:3",
        f"{acme}:1",
        "TIDEGATE_OPERATIONS",
    ]


def install(write: Write, modules: str) -> None:
    """A distribution `acme-prices` with these entry points, as pip would leave it."""
    write("acme_prices-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-prices\nVersion: 1.0\n")
    write("acme_prices-1.0.dist-info/entry_points.txt", f"[tidegate.operations]\n{modules}\n")


def test_an_installed_distribution_offers_its_modules_by_entry_points(write: Write) -> None:
    install(write, "prices = acme.prices\nroutes = acme.routes")
    write("acme/__init__.py", "")
    write("acme/prices.py", operation_text("price"))
    write("acme/routes.py", operation_text("route"))

    assert names_of() == ["price", "route"]
    assert names_of("acme.prices") == ["price", "route"], "named by the setting as well, it is loaded once"


def test_the_fault_of_an_installed_module_names_the_distribution(write: Write) -> None:
    install(write, "prices = acme.prices")
    (fault,) = faults_of()
    assert fault.startswith("acme-prices, entry point prices of tidegate.operations: there is no module acme.prices")

    write("acme/__init__.py", "")
    path = write("acme/prices.py", "import nothing_of_that_name\n")
    (fault,) = faults_of()
    assert fault.startswith(f"{path}:1: ModuleNotFoundError")
