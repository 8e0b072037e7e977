# SPDX-License-Identifier: Apache-2.0
"""docs/python.md and the notebook run as they are written."""

import ast
import re

import nbformat
import pytest

import heepgen
from gen.records.result import Result
from tests.house import ROOT

GUIDE = (ROOT / "docs" / "python.md").read_text()
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def test_every_block_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
    session = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), session)
    assert len(blocks) > 6 and (tmp_path / "build" / "small" / "main.cpp").is_file()
    shown = capsys.readouterr().out
    written = re.findall(r"print\(net\) +# (.*)", GUIDE)
    assert written == shown.splitlines()[:1] and "every bit equals the model's" in shown


def test_the_guide_has_every_call_and_the_notebook_too():
    calls = {name for name, value in vars(heepgen.Network).items() if callable(value) and name[0] != "_"}
    cells = "".join(cell.source for cell in nbformat.read(NOTEBOOK, 4).cells)
    assert calls and all(f"net.{name}(" in GUIDE and f"net.{name}(" in cells for name in calls)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    session, shown = {}, {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "outputs are not kept in the repository"
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "notebook", "exec"), session)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "notebook", "eval"), session)
                shown[type(value).__name__] = value
    results = [value for value in shown.values() if isinstance(value, Result)]
    assert len(results) == 6 and all("<pre" in value._repr_html_() for value in results)
    assert shown["RunReport"].bit_exact
    assert shown["EvalReport"].scores["fake-quantised"] == pytest.approx(float(session["hits"]))
    assert session["hits"] > 0.8
