# SPDX-License-Identifier: Apache-2.0
"""Properties of the generated Verilog that CI proves, each with an edit that must break it; see `make formal`."""

import pytest

from tests.formal.__main__ import prove, refute
from tests.formal.plan import PROOFS

SHORT = [(proof, variant) for proof in PROOFS for variant in proof.short]
CONTROLS = [(proof, control) for proof in PROOFS for control in proof.controls]


@pytest.mark.parametrize("proof, variant", SHORT, ids=lambda p: getattr(p, "checker", p))
def test_proved(proof, variant, tmp_path):
    for row in prove(proof, variant, tmp_path / "rtl"):
        assert row.good, row


@pytest.mark.parametrize("proof, control", CONTROLS, ids=lambda p: getattr(p, "checker", getattr(p, "fails", "")))
@pytest.mark.slow
def test_an_edit_breaks_it(proof, control, tmp_path):
    row = refute(proof, control, tmp_path / "rtl")
    assert row.good, row


@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: p.checker)
def test_every_property_has_a_control(proof):
    assert set(proof.properties) == {control.fails for control in proof.controls}
