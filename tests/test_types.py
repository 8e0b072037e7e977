# SPDX-License-Identifier: Apache-2.0
"""mypy checks everything but blocks of MyHDL (`make lint`); what it lets pass for their sake is theirs alone."""

import ast
import tomllib

import pytest

from tests.house import ROOT, modules

BLOCKS = {"unit", "block"}


def overrides(option):
    """Patterns of the modules for which mypy's `option` is off."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    return [m for o in settings["overrides"] if o.get(option) is False for m in o["module"]]


def matches(module, pattern):
    return module == pattern or pattern.endswith(".*") and f"{module}.".startswith(pattern[:-1])


def bare(tree):
    """(line, name) of functions without full annotations, blocks and what lies in them aside."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            decorators = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
            if decorators & BLOCKS:
                continue
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            given = [a for a in every if a and a.arg not in ("self", "cls")]
            if node.returns is None or any(a.annotation is None for a in given):
                yield node.lineno, node.name
        yield from bare(node)


def test_what_is_bare_is_found():
    source = "@unit(out='y')\ndef a(x):\n    def b(): pass\ndef c(x) -> int: pass\nclass D:\n    def e(self): pass"
    assert list(bare(ast.parse(source))) == [(4, "c"), (6, "e")]


@pytest.mark.parametrize("pattern", overrides("disallow_untyped_defs"))
def test_only_blocks_go_without_annotations(pattern):
    paths = [path for module, path in modules("hls").items() if matches(module, pattern)]
    assert paths
    found = [f"{path.name}:{n} {name}" for path in paths for n, name in bare(ast.parse(path.read_text()))]
    assert not found


def test_mypy_looks_at_every_module():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] and not any(o.get("ignore_errors") for o in settings["overrides"])
