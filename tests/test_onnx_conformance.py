# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests of the operators that have a handler, and random nodes: right, or refused in one sentence."""

import json
import os

import numpy as np
import pytest

pytest.importorskip("onnx")
from tests import onnx_cases, onnx_random  # noqa: E402

OUTCOMES = json.loads(onnx_cases.OUTCOMES.read_text())
NAMES = [(op, name) for op, outcomes in OUTCOMES.items() for name in outcomes]
RANDOM = int(os.environ.get("HEEPGEN_FUZZ", 400))
QUICK = 80
PARTS = 12


def often(cases: list, quick) -> list:
    """The cases, those that are not `quick` marked as slow."""
    return [case if quick(index) else pytest.param(*case, marks=pytest.mark.slow) for index, case in enumerate(cases)]


def check(op, name, folder, form):
    found = onnx_cases.outcome(onnx_cases.cases(op)[name], folder, form)
    assert (found if OUTCOMES[op][name] == "passed" else found != "passed") in ("passed", True), found
    assert "\n" not in found and "computes something else" not in found, found


def passes(index):
    op, name = NAMES[index]
    return OUTCOMES[op][name] == "passed"


@pytest.mark.parametrize("op, name", often(NAMES, lambda i: i % 3 == 0 or not passes(i)))
def test_case(op, name, tmp_path):
    check(op, name, tmp_path, onnx_cases.FORMS[0])


@pytest.mark.parametrize("form", onnx_cases.FORMS[1:])
@pytest.mark.parametrize(
    "op, name",
    [
        pytest.param(*case, marks=pytest.mark.slow) if i % 20 else case
        for i, case in enumerate(case for j, case in enumerate(NAMES) if passes(j))
    ],
)
def test_case_of_another_exporter(op, name, form, tmp_path):
    check(op, name, tmp_path, form)


def test_every_case_of_every_operator_has_an_outcome():
    assert {op: sorted(onnx_cases.cases(op)) for op in sorted(onnx_cases.HANDLERS)} == {
        op: sorted(outcomes) for op, outcomes in OUTCOMES.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_other_cases_end_in_numbers_or_one_sentence(part, tmp_path):
    for case in onnx_cases.others()[part::PARTS]:
        found = onnx_cases.outcome(case, tmp_path)
        assert found and "\n" not in found and "computes something else" not in found, (case.name, found)


@pytest.mark.parametrize("seed", [*range(QUICK), *(pytest.param(s, marks=pytest.mark.slow)
                                                   for s in range(QUICK, RANDOM))])  # fmt: skip
def test_random_node(seed, tmp_path):
    onnx_random.check(np.random.default_rng([seed, 19]), tmp_path)
