# SPDX-License-Identifier: Apache-2.0
"""The generated Verilog's arithmetic against the host's: a small part of `make arithmetic`, and its document."""

import json
from dataclasses import replace

import pytest

from gen.documents.arithmetic import DATA, FAULTS, attempt, cases, find_fault, named, planted, program
from gen.documents.docs import ROOT
from hls.errors import HeepgenError

RESULTS = 500_000
QUICK = ("fp32_add", "fp32_mul", "fma_pe", "normaliser, 8 rows", "aligned array, 5x3")  # to compile
SEED = 1_000_001  # not one of `make arithmetic`'s


@pytest.mark.parametrize(
    "name", [pytest.param(case.name, marks=[] if case.name in QUICK else [pytest.mark.slow]) for case in cases()]
)
def test_units_equal_the_host(name):
    found = attempt(program(named(name)), SEED, RESULTS)
    assert found["wrong"] == 0, found["examples"]
    assert found["results"] >= RESULTS
    assert all(found["classes"].values()), found["classes"]


def test_seed_repeats_a_run():
    binary = program(named("fp32_add"))
    assert attempt(binary, 5, 10_000) == attempt(binary, 5, 10_000)
    assert attempt(binary, 5, 10_000)["classes"] != attempt(binary, 6, 10_000)["classes"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[pytest.mark.slow] if index else [], id=f"{fault.case}-{index}")
        for index, fault in enumerate(FAULTS)
    ],
)
def test_planted_faults_are_found(fault):
    assert find_fault(fault, RESULTS, SEED)


def test_a_fault_that_cannot_be_planted_is_said():
    with pytest.raises(HeepgenError, match="cannot be planted"), planted(replace(FAULTS[0], old="no such line")):
        pass


def test_document_tells_of_every_unit():
    data = json.loads((ROOT / "docs" / DATA).read_text())
    assert [c["name"] for c in data["cases"]] == [c.name for c in cases()]
    for tried, case in zip(data["cases"], cases(), strict=True):
        assert tried["wrong"] == 0 and tried["results"] >= (10**7 if case.columns else 10**8)
    assert [(f["case"], f["old"], f["new"]) for f in data["faults"]] == [(f.case, f.old, f.new) for f in FAULTS]
    assert all(f["wrong"] for f in data["faults"])
