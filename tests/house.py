# SPDX-License-Identifier: Apache-2.0
"""Rooms of the house and the arrows between them; `python -m tests.house` prints them.

A room is a folder of modules, or a module beside such folders in a package of the top. An arrow leads from a room to
one that its modules import.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hls", "firmware_gen", "sim", "xheep_integration", "gen", "heepgen", "heepstorch")


def modules(*packages: str) -> dict[str, Path]:
    """Files of all modules by dotted name; a package is its `__init__`."""
    paths = (path for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(path: Path, known: dict[str, Path], functions: bool = True) -> Iterator[tuple[int, str, str]]:
    """(line, module of ours, imported name or "") of every import, or with `functions` False those at its top."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if functions else tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (node.lineno, inner, "") if inner in known else (node.lineno, node.module, alias.name)


def room(module: str) -> str:
    """The folder of a module, or itself where that is a package of the top."""
    folder = module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
    return module if folder in PACKAGES else folder


def arrows(*packages: str) -> dict[str, set[str]]:
    """Rooms that every room imports from."""
    known, result = modules(*packages), defaultdict(set)
    for module, path in known.items():
        result[room(module)] |= {room(other) for _, other, _ in imports(path, known, functions=False)}
    return {here: there - {here} for here, there in result.items()}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """A way around, for every room that can be reached from itself."""
    found = []
    for start in graph:
        ways, seen = [[start]], set()
        while ways:
            way = ways.pop()
            for step in graph.get(way[-1], ()):
                if step == start:
                    found.append(" -> ".join([*way, start]))
                elif step not in seen:
                    seen.add(step)
                    ways.append([*way, step])
    return found


def main() -> None:
    for package in PACKAGES:
        graph, known = arrows(package), modules(package)
        print(
            f"{package}: {len(known)} files, {len(graph)} rooms, {sum(map(len, graph.values()))} arrows, "
            f"{len(circles(graph))} rooms in a circle"
        )
        for here, there in sorted(graph.items()):
            files = [module for module in known if room(module) == here]
            print(f"  {here} ({len(files)}) -> {', '.join(sorted(there)) or 'nothing'}")


if __name__ == "__main__":
    main()
