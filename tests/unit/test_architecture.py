"""The folders show the architecture: no circle between files or rooms, no folder that must be searched, no loose file.

import-linter's contracts (pyproject.toml) say which way imports go; this counts imports inside functions alike, and
leaves out those for type checkers alone.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from workers.plan.code_version import imports_in

TOP = ("orchestrator", "mlflow_tracking", "workers", "search_spaces")
MOST_MODULES = 14
# What stands beside the rooms of a package, and why no room is its place.
LOOSE = {
    "orchestrator": {"cli", "environment", "number_format"},
    "workers": set(),
    "workers.training": {
        "steps", "engines", "held_out_check", "enough", "preparing", "recover", "finetune", "distill",
    },
    "workers.compression": {"layer_progress", "scale_folding"},
    "workers.decoder": {
        "decode", "greedy", "beam", "generate", "streams", "blueprint", "families", "projections", "settings",
    },
    "search_spaces": {"candidate", "outcome", "predicted_size", "curve", "errors", "parameters", "wording"},
}  # fmt: skip


def files() -> dict[str, Path]:
    """Every module by its dotted name, `__init__` files apart."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for top in TOP
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "__init__.py"
    }


FILES = files()


def imported(path: Path) -> set[str]:
    """The modules of this project that a module imports, at whatever depth."""
    return {name for name in imports_in(ast.parse(path.read_text(encoding="utf-8"))) if name in FILES}


GRAPH = {name: imported(path) - {name} for name, path in FILES.items()}
PACKAGES = sorted({name.rpartition(".")[0] for name in FILES})


def rooms(package: str) -> dict[str, set[str]]:
    """What lies directly in a package, folders and files, and what of it each imports from the others."""
    found: dict[str, set[str]] = {}
    for name, others in GRAPH.items():
        if (room := child(package, name)) is not None:
            targets = {child(package, other) for other in others} - {None, room}
            found.setdefault(room, set()).update(target for target in targets if target is not None)
    return found


def child(package: str, name: str) -> str | None:
    inside = name.removeprefix(f"{package}.")
    return None if inside == name else inside.partition(".")[0]


def circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_files_import_each_other_in_a_circle() -> None:
    assert len(FILES) > 300 and sum(map(len, GRAPH.values())) > 1000
    assert circle(GRAPH) is None


@pytest.mark.parametrize("package", [*TOP, *(name for name in PACKAGES if name not in TOP)])
def test_no_rooms_import_each_other_in_a_circle(package: str) -> None:
    assert circle(rooms(package)) is None


def test_no_folder_has_more_modules_than_a_reader_takes_in() -> None:
    held = Counter(name.rpartition(".")[0] for name in FILES)
    assert {package: count for package, count in held.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("package", LOOSE)
def test_no_module_is_loose_beside_the_rooms(package: str) -> None:
    loose = {name.rpartition(".")[2] for name in FILES if name.rpartition(".")[0] == package}
    assert loose == LOOSE[package]


def test_packages_say_what_they_are_and_hold_nothing_else() -> None:
    for top in TOP:
        for file in (ROOT / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file
        for file in (ROOT / top).rglob("__init__.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree) and len(tree.body) == 1, file


def test_the_product_reads_nothing_from_the_tests() -> None:
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] != "tests", name
            elif isinstance(node, ast.Constant):
                assert node.value != "tests", name


def test_no_two_test_files_have_one_name() -> None:
    """Folders of tests are no packages, and pytest tells their modules apart by name alone."""
    folders = [ROOT / "tests" / name for name in ("unit", "data", "long")]
    names = Counter(file.name for folder in folders for file in folder.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
