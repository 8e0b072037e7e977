# SPDX-License-Identifier: Apache-2.0
"""The descriptor's table: every bit belongs to one field, and every field keeps its smallest and largest value."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from hls.descriptor.interface.table import FIELD, FIELDS, WORDS, Descriptor, address, located, misfits, pack, unpack
from hls.errors import HeepgenError


def test_no_bit_belongs_to_two_fields():
    bits = [(field.word, bit) for field in FIELDS for bit in range(field.lsb, field.lsb + field.width)]
    assert len(bits) == len(set(bits))
    assert min(bits)[0] >= 0 and max(bits)[0] < WORDS and all(0 <= bit < 32 for _, bit in bits)
    assert len(FIELD) == len(FIELDS)


def random_descriptor(rng):
    """Any bits in any field."""
    bits = {f: int(rng.integers(0, 1 << f.width)) for f in FIELDS}
    return Descriptor(
        **{f.attribute: np.uint32(v).view(np.float32) if f.kind == "fp32" else v + f.range[0] for f, v in bits.items()}
    )


@pytest.mark.parametrize("seed", range(8))
def test_words_give_back_the_descriptor(seed):
    """NaNs with all their bits."""
    one = random_descriptor(np.random.default_rng(seed))
    other = unpack(pack(one))
    for f in FIELDS:
        assert np.asarray(one[f.name]).tobytes() == np.asarray(other[f.name]).tobytes(), f.name
    assert np.array_equal(pack(other), pack(one))


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_extremes_of_a_field_leave_the_others_alone(field):
    if field.kind == "fp32":
        values = [np.float32(-0.0), np.float32(-np.inf), np.float32(1e-45)]
    else:
        low, high = field.range
        values = [low, high]
        for value in (low - 1, high + 1):
            wrong = Descriptor(**{field.attribute: value})
            with pytest.raises(HeepgenError, match=f"{field.name} = {value} is outside"):
                pack(wrong)
            assert misfits(wrong) == ([] if field.kind == "addr" else [f"{field.name} = {value}"])
    for value in values:
        one = Descriptor(**{field.attribute: value})
        got = unpack(pack(one))
        assert np.float32(got[field.name]).tobytes() == np.float32(value).tobytes() and got[field.name] == value
        assert not any(np.float32(got[other]).view(np.uint32) for other in FIELD if other != field.name)
        assert got == one and not misfits(one)


def test_symbolic_addresses_become_words_when_they_are_located():
    names = {f.attribute: f.name for f in FIELDS if f.kind == "addr"}
    symbolic = replace(random_descriptor(np.random.default_rng(9)), **names)
    places = {name: 4 * number for number, name in enumerate(names.values())}
    words = pack(located(symbolic, places.get))
    assert all(words[FIELD[name].word] == place for name, place in places.items())
    assert np.array_equal(words, pack(replace(symbolic, **{a: places[name] for a, name in names.items()})))


def test_a_descriptor_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Descriptor().kh = 1


def test_addresses():
    assert address(3, 0x3FFFFFFC) == 0xFFFFFFFC and address(0, 0) == 0
    for region, offset in ((4, 0), (-1, 0), (0, 1 << 30), (0, -4)):
        with pytest.raises(HeepgenError, match="out of range"):
            address(region, offset)
