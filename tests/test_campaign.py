# SPDX-License-Identifier: Apache-2.0
"""A small part of `make campaign`: broken and disturbed lists, and the correct one behind each of them."""

import pytest

from tests.campaign import BATCH, GEOMETRIES, KINDS, bad, campaign


@pytest.mark.parametrize("geometries", [1, pytest.param(len(GEOMETRIES), marks=pytest.mark.slow)])
def test_no_list_harms_the_next(geometries):
    lists = BATCH * geometries
    results = list(campaign(lists, seed=2))
    assert len(results) == lists and {r["kind"] for r in results} == set(KINDS)
    assert len({r["geometry"] for r in results}) == geometries
    assert not list(filter(bad, results))
    ends = {r["end"] for r in results}
    assert {
        "error DESCRIPTOR",
        "error UNALIGNED",
        "error WINDOW",
        "error BUSY",
        "goes on",
        "stopped by the reset",
        "done, the model's bits",
    } <= ends
