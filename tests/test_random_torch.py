# SPDX-License-Identifier: Apache-2.0
"""Random PyTorch models on the INT8 grid: bit-exact model against PyTorch in float64, or a refusal in one sentence."""

import os

import pytest

from tests.fuzz_torch import run

CASES = int(os.environ.get("HEEPGEN_FUZZ_TORCH", 120))
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_random_models_agree_with_pytorch(part):
    size = CASES // PARTS
    counts, failures = run(part * size, size)
    assert not failures, "\n".join(failures)
    assert counts["agrees"] >= 0.6 * size and counts["refused"] <= 0.25 * size, counts
