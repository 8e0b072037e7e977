# SPDX-License-Identifier: Apache-2.0
"""A small part of `make campaign`: broken and disturbed lists, and the correct one behind each of them."""

from tests.campaign import KINDS, bad, campaign

LISTS = 200


def test_no_list_harms_the_next():
    results = list(campaign(LISTS, seed=2))
    assert len(results) == LISTS and {r["kind"] for r in results} == set(KINDS)
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
