# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, in no circle, and take no other module's privates."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests import house

LICENCE = "SPDX-License-Identifier: Apache-2.0"
COMMENTED = {".py", ".cpp", ".hpp", ".h", ".sv", ".svh", ".v", ".S", ".j2", ".toml", ".cfg", ".hjson"}
MAY_IMPORT = {
    "hls": {"hls"},
    "firmware_gen": {"firmware_gen", "hls"},
    "sim": {"sim", "firmware_gen", "hls"},
    "xheep_integration": {"xheep_integration", "firmware_gen", "hls"},
    "gen": {"gen", "sim", "xheep_integration", "firmware_gen", "hls"},
    "heepstorch": {"heepstorch", "heepgen", "gen", "firmware_gen", "hls"},
    "heepgen": {"heepgen", "gen", "firmware_gen", "hls"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_nothing_imports_upward(package):
    known = house.modules(*house.PACKAGES, "examples", "tests")
    upward = [
        f"{path.name}:{line} imports {other}"
        for path in house.modules(package).values()
        for line, other, _ in house.imports(path, known)
        if other.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert not upward


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_rooms_have_no_circle(package):
    assert not house.circles(house.arrows(package))


def test_circles_are_found():
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b", "c -> b -> c"]


def test_rooms_are_small_enough_to_know():
    """A dozen modules and the package itself; templates and data count."""
    listed = subprocess.run(["git", "ls-files", *house.PACKAGES], cwd=house.ROOT, capture_output=True, text=True)
    folders = Counter(str(Path(name).parent) for name in listed.stdout.split())
    assert folders.total() > 400 and not {name: n for name, n in folders.items() if n > 13}


def test_files_are_short_enough_to_read():
    listed = subprocess.run(["git", "ls-files", *house.PACKAGES], cwd=house.ROOT, capture_output=True, text=True)
    sources = [name for name in listed.stdout.split() if Path(name).suffix in (".py", ".cpp", ".hpp", ".j2")]
    lengths = {name: (house.ROOT / name).read_text().count("\n") for name in sources}
    assert len(lengths) > 400
    assert not {name: n for name, n in lengths.items() if n > 500}


def test_privates_stay_at_home():
    known, taken = house.modules(), []
    for module, path in known.items():
        imported = {(name or other).rpartition(".")[2] for _, other, name in house.imports(path, known)}
        taken += [
            f"{module}:{line} takes {name}"
            for line, _, name in house.imports(path, known)
            if name.startswith("_") and not name.startswith("__")
        ]
        taken += [
            f"{module}:{node.lineno} takes {ast.unparse(node)}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in imported
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ]
    assert not taken


def test_every_room_is_described():
    described = re.findall(r"^\| `([a-z_/]+)/` \|", (house.ROOT / "docs" / "architecture.md").read_text(), re.M)
    rooms = {
        room.replace(".", "/")
        for room in map(house.room, house.modules())
        if (house.ROOT / room.replace(".", "/")).is_dir()
    }
    assert {name for name in described if "runtime" not in name} | {"firmware_gen/targets"} == rooms


def test_every_source_names_its_licence():
    listed = subprocess.run(["git", "ls-files"], cwd=house.ROOT, capture_output=True, text=True, check=True).stdout
    commented = [name for name in listed.split() if Path(name).suffix in COMMENTED or Path(name).name == "Makefile"]
    silent = [name for name in commented if LICENCE not in (house.ROOT / name).read_text()[:200]]
    assert len(commented) > 300 and not silent


MOST_BY_POSITION = 7


def test_many_arguments_have_names():
    """Of our functions and classes, but of those that take any number; rows of tables at the top of a module are read
    as columns."""
    trees = {module: ast.parse(path.read_text()) for module, path in house.modules().items()}
    definitions = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in definitions if isinstance(node, ast.FunctionDef)]
    ours = {node.name for node in (*functions, *(n for n in definitions if isinstance(n, ast.ClassDef)))}
    any_number = {node.name for node in functions if node.args.vararg}
    found = [
        f"{module}:{node.lineno} {ast.unparse(node.func)}"
        for module, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and len(node.args) > MOST_BY_POSITION
        and ast.unparse(node.func).rpartition(".")[2] in ours - any_number
    ]
    assert len(ours) > 2000 and not found


def test_functions_are_short_enough_to_read():
    """But those of MyHDL, whose processes stand in the function that declares their signals."""
    lengths = {
        f"{module}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for module, path in house.modules(*(package for package in house.PACKAGES if package != "hls")).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(lengths) > 3000 and not {name: n for name, n in lengths.items() if n > 80}
