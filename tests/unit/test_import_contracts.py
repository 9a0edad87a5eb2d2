"""Each import contract of pyproject.toml is broken by an import that it forbids, and no modules import in a circle."""

import copy
import graphlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest
from importlinter import configuration
from importlinter.application import use_cases
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

ROOT = Path(__file__).parents[2]
configuration.configure()
OPTIONS = use_cases.read_user_options(str(ROOT / "pyproject.toml"))
PACKAGES = OPTIONS.session_options["root_packages"]
CONTRACTS = {options["id"]: options for options in OPTIONS.contracts_options}
KINDS: dict[str, type[Contract]] = {"forbidden": ForbiddenContract, "layers": LayersContract}
PLANTED = {
    "one-way": [
        ("webapp.app", "tasks.app"),
        ("tasks.run", "webapp.app"),
        ("webapp.app", "embedded.stack"),
        ("tasks.app", "embedded.stack"),
        ("config.settings", "webapp.app"),
        ("config.settings", "tasks.app"),
        ("tidegate.clock", "config.settings"),
        ("tidegate.clock", "webapp.app"),
        ("tidegate.clock", "tasks.app"),
    ],
    "rooms": [("tidegate.jobs.job", "tidegate.gateway"), ("tidegate.a_new_room", "tidegate.clock")],
    "web-rooms": [
        ("webapp.openapi.schemas", "webapp.resources.bulk"),
        ("webapp.resources.jobs", "webapp.page.views"),
        ("webapp.http.shapes", "webapp.openapi.route"),
    ],
    "pure": [
        *itertools.product(
            CONTRACTS["pure"]["source_modules"],
            ("sqlalchemy", "tidegate.database.connection", "tidegate.jobs.store", "tidegate.webhooks.send_store"),
        ),
        ("tidegate.rate_limit", "tidegate.jobs.transitions"),
    ],
    "values": [
        *itertools.product(CONTRACTS["values"]["source_modules"], ("sqlalchemy", "tidegate.database.connection")),
        ("tidegate.jobs.job", "tidegate.jobs.store"),
        ("tidegate.access.keys", "tidegate.access.key_store"),
        ("tidegate.intake.submission", "tidegate.intake.insert"),
    ],
    "statements": [
        (module, "sqlalchemy")
        for module in ("tidegate.gateway", "tidegate.stores", "tidegate.dispatch.gate", "tidegate.webhooks.sender")
    ],
    "no-celery": list(itertools.product(("tidegate.clock", "webapp.app", "config.settings"), ("celery", "kombu"))),
    "no-flask": list(itertools.product(("tidegate.clock", "tasks.app", "config.settings"), ("flask", "werkzeug"))),
    "past-flask": list(itertools.product(("webapp.http.job_handlers", "webapp.serving.fast_path"), ("flask",))),
    "spans": list(
        itertools.product(("embedded.stack", "tasks.app", "tidegate.tracing", "webapp.app"), ("opentelemetry",))
    ),
    "client": list(
        itertools.product(
            ("tidegate_client.client",),
            ("config.settings", "embedded.stack", "tasks.app", "tidegate.errors", "webapp.app"),
        )
    ),
    "command-line": [
        ("tidegate_client.client", "rich"),
        ("tidegate_client.transport", "click"),
        ("tidegate_client.job", "tidegate_client.command.server"),
        ("webapp.app", "click"),
        ("config.settings", "rich"),
        ("tidegate.clock", "tidegate_client.command.server"),
    ],
}


@cache
def imports() -> grimp.ImportGraph:
    """Who imports whom, in the tree as it is."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def is_kept(contract_id: str, graph: grimp.ImportGraph) -> bool:
    options = CONTRACTS[contract_id]
    contract = KINDS[options["type"]](options["name"], OPTIONS.session_options, options)
    return bool(contract.check(copy.deepcopy(graph), verbose=False).kept)


def with_import(importer: str, imported: str) -> grimp.ImportGraph:
    graph = copy.deepcopy(imports())
    for module in (importer, imported):
        if module not in graph.modules:
            graph.add_module(module)
    graph.add_import(importer=importer, imported=imported)
    return graph


def forbidden_between_rooms() -> Iterator[tuple[str, str]]:
    """A module of each room, with one of each room above it and beside it."""
    layers = [layer.split(" | ") for layer in CONTRACTS["rooms"]["layers"]]
    for height, layer in enumerate(layers):
        above = [room for higher in layers[:height] for room in higher]
        for room in layer:
            for other in [*above, *(beside for beside in layer if beside != room)]:
                yield within(room), within(other)


def within(room: str) -> str:
    return max(imports().find_descendants(f"tidegate.{room}"), default=f"tidegate.{room}")


def test_every_contract_has_a_planted_import() -> None:
    assert set(PLANTED) == set(CONTRACTS)


@pytest.mark.parametrize("contract_id", CONTRACTS)
def test_the_tree_as_it_is_keeps_the_contract(contract_id: str) -> None:
    assert is_kept(contract_id, imports())


@pytest.mark.parametrize("contract_id", CONTRACTS)
def test_each_planted_import_breaks_its_contract(contract_id: str) -> None:
    for importer, imported in PLANTED[contract_id]:
        assert not is_kept(contract_id, with_import(importer, imported)), f"{importer} may import {imported}"


def test_no_room_may_import_one_above_or_beside_it() -> None:
    for importer, imported in forbidden_between_rooms():
        assert not is_kept("rooms", with_import(importer, imported)), f"{importer} may import {imported}"


def test_a_planted_line_in_the_source_breaks_each_contract(tmp_path: Path) -> None:
    for package in PACKAGES:
        folder = ROOT / "client" / package if package == "tidegate_client" else ROOT / package
        shutil.copytree(folder, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for importer, imported in (planted[0] for planted in PLANTED.values()):
        with (tmp_path / importer.replace(".", "/")).with_suffix(".py").open("a", encoding="utf-8") as module:
            module.write(f"import {imported}\n")

    linter = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert f"0 kept, {len(CONTRACTS)} broken" in told.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    # What is imported for types alone is not there when the program runs.
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    order = graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    order.prepare()  # raises CycleError, which names the circle
