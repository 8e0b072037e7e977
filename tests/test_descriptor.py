# SPDX-License-Identifier: Apache-2.0
"""The descriptor's table: every bit belongs to one field, and every field keeps its smallest and largest value."""

import numpy as np
import pytest

from hls.descriptor.interface.table import FIELD, FIELDS, WORDS, address, pack, unpack
from hls.errors import HeepgenError


def test_no_bit_belongs_to_two_fields():
    bits = [(field.word, bit) for field in FIELDS for bit in range(field.lsb, field.lsb + field.width)]
    assert len(bits) == len(set(bits))
    assert min(bits)[0] >= 0 and max(bits)[0] < WORDS and all(0 <= bit < 32 for _, bit in bits)
    assert len(FIELD) == len(FIELDS)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_extremes_of_a_field_leave_the_others_alone(field):
    if field.kind == "fp32":
        values = [np.float32(-0.0), np.float32(-np.inf), np.float32(1e-45)]
    else:
        low, high = field.range
        values = [low, high]
        for value in (low - 1, high + 1):
            with pytest.raises(HeepgenError, match=f"{field.name} = {value} is outside"):
                pack({field.name: value})
    for value in values:
        got = unpack(pack({field.name: value}))
        assert np.float32(got[field.name]).tobytes() == np.float32(value).tobytes() and got[field.name] == value
        assert not any(np.float32(other).view(np.uint32) for name, other in got.items() if name != field.name)


def test_addresses():
    assert address(3, 0x3FFFFFFC) == 0xFFFFFFFC and address(0, 0) == 0
    for region, offset in ((4, 0), (-1, 0), (0, 1 << 30), (0, -4)):
        with pytest.raises(HeepgenError, match="out of range"):
            address(region, offset)


def test_an_unknown_name_is_refused():
    with pytest.raises(HeepgenError, match="STRIPS does not exist"):
        pack({"STRIPS": 1})
