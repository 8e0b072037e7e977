"""Imports run one way: gen -> {sim, xheep_integration} -> firmware_gen -> hls."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "hls": {"hls"},
    "firmware_gen": {"firmware_gen", "hls"},
    "sim": {"sim", "firmware_gen", "hls"},
    "xheep_integration": {"xheep_integration", "firmware_gen", "hls"},
    "gen": {"gen", "sim", "xheep_integration", "firmware_gen", "hls"},
}


def imported(path: Path):
    """(line, first part of the module) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
            [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
        yield from ((node.lineno, name.split(".")[0]) for name in names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_nothing_imports_upward(package):
    ours = {*MAY_IMPORT, "examples", "tests"}
    upward = [f"{path.relative_to(ROOT)}:{line} imports {name}" for path in sorted((ROOT / package).rglob("*.py"))
              for line, name in imported(path) if name in ours - MAY_IMPORT[package]]
    assert not upward
