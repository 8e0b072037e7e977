# SPDX-License-Identifier: Apache-2.0
"""The layer descriptor: the contract between firmware and accelerator.

One descriptor is one pass of the primitive

    stream vectors through the array -> accumulate (add | max) -> epilogue -> write back

with all loops in hardware. Descriptors form a linked list in memory which the accelerator fetches by
itself. This table is the only place where the layout is written; the C++ header, the documentation, the
hardware decoder and the NumPy model are all derived from it.

Descriptors overlap: one may load, and even compute, while the previous one still stores; earlier ones are complete
by then. A descriptor whose input depends on the previous one says BARRIER: its words are then loaded only when all
those stores are done, or word by word where the previous one says so: the first MARK_BASE words of this input do not
depend on it, and each of its finished pixels completes MARK_WORDS more (0: none). AUX reads and stores never overlap.

Units: *addresses* are a region index in bits 31:30 (BASE/LIMIT register pair) and a byte offset in bits
29:0, which must be a multiple of 4. *Strides, steps and counts* are in 32-bit words unless said otherwise.

Loads, stores and aux reads of region 3 stay in the scratchpad, where there is one. The words of a beat must be
neighbours there: C strides are 1. The low *_RING bits of a word index count, the others are those of the stream's
first word: a stream goes round in an aligned ring of 2**RING words. BASE3 must be 0 then.

Loops, outermost first (dense: Cb = cols; diagonal: Cb = D = min(rows, cols))::

    strip   strips of FIRST_PX, then STRIP_PX output pixels (row-major over OUT_W) until OUT_PX
    g       GROUPS
    cbg     groups of CBG channel blocks of Cb output channels, until NCB blocks
    ky, kx, kb   KH, KX, KB          <- one weight tile per (ky, kx, kb, cb)
    cb      blocks of this group
    px      pixels of this strip     <- one vector per cycle

Lane i of the vector is input word ``row + p + i`` of the (circular) activation buffer, where

    row = ROW0 + oy*SY_WORDS + ky*KY_STEP                     (linear word of the input row's start)
    p   = X0 + ox*SX_WORDS + kx*KX_STEP + g*GROUP_IN_STEP + kb*rows   (dense)
    p   = X0 + ox*SX_WORDS + kx*KX_STEP + cb*D                        (diagonal)
    iy  = Y0 + oy*STRIDE_Y + ky*DIL_Y

and the lane carries data iff ``0 <= iy < IN_H``, ``0 <= p + i < IN_ROW`` and ``i < RUN - kb*rows``
(diagonal: ``i < RUN - cb*D``); every other lane is PAD_VALUE. A run-mode convolution (dense, dilation 1)
has KX = 1 and RUN = kw*Cin; grouped and dilated ones have KX = kw and RUN = Cin/groups.

Output word of channel ``n = cb*Cb + j`` (n < COUT) of group g at (oy, ox):

    STORE_ADDR + 4*(oy*STORE_Y_STRIDE + ox*STORE_X_STRIDE + g*STORE_G_STEP + cb*STORE_CB_STEP + j*STORE_C_STRIDE)

and likewise AUX_* for the residual or the accumulators' initial values.

Weight stream: for g, cbg, ky, kx, kb, cb one tile of rows*cols bytes, byte r*cols + c (diagonal: D bytes),
packed densely, zero padded at the end of a pass to WEIGHT_WORDS (a multiple of ports); used once per strip, and
read once in all where a pass fits the weight buffer.
Parameter stream: for g, cb (all NCB) and j in range(ceil(Cb/ports)): ports scales, then ports biases;
PARAM_WORDS in all; used once per strip.

A descriptor whose fields contradict each other is refused with error DESCRIPTOR before any of it runs. The rules are
those below, products modulo the width of their field, and no loop count is 0; `rules` lists them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hls.errors import HeepgenError

WORDS = 52

Fields: TypeAlias = Mapping[str, Any]
"""Values of a descriptor by the names of its fields: int, or np.float32 for fp32 fields."""

CONTIGUOUS, ARENA, INTERLEAVED, SCRATCHPAD = range(4)
"""Regions of descriptor addresses as firmware uses them: constants in contiguous banks, activations, constants in
interleaved banks; and the one whose loads, stores and aux reads stay on chip where there is a scratchpad."""

OFFSET_BITS = 30
"""Of a byte offset in a descriptor address, below the region."""


@dataclass(frozen=True)
class Field:
    """One bit field: ``word`` index, ``lsb``, ``width`` in bits; ``kind`` is uint, int, addr or fp32."""

    name: str
    word: int
    lsb: int
    width: int
    kind: str
    doc: str

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer field."""
        if self.kind == "int":
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


LINEAR = 24  # bits of a linear input word index
SIGNED_LINEAR = LINEAR + 2

FIELDS = (
    Field("NEXT", 0, 0, 32, "addr", "next descriptor; ignored when LAST"),
    Field("LAST", 1, 0, 1, "uint", "end of list: raise DONE after the last store's response"),
    Field("BARRIER", 1, 1, 1, "uint", "the input may be what the previous descriptor stores"),
    Field("DIAGONAL", 1, 2, 1, "uint", "column c takes lane c only; D channels per vector"),
    Field("MAX", 1, 3, 1, "uint", "accumulate by maximum instead of addition"),
    Field("UNIT_WEIGHTS", 1, 4, 1, "uint", "diagonal: every weight is 1, there is no weight stream"),
    Field("UNIFORM", 1, 5, 1, "uint", "SCALE and BIAS for all channels, there is no parameter stream"),
    Field("RESIDUAL", 1, 6, 1, "uint", "add the AUX stream in the epilogue"),
    Field("ACC_INIT", 1, 7, 1, "uint", "initialise accumulators from the AUX stream (excludes RESIDUAL)"),
    Field("ACT_FIRST", 1, 8, 1, "uint", "activation before the residual add instead of after"),
    Field("SLOPE_EN", 1, 9, 1, "uint", "multiply negative values by SLOPE"),
    Field("PROFILE", 1, 10, 1, "uint", "write a profile record to PROFILE_ADDR at the end"),
    Field("LOAD_RING", 1, 11, 5, "uint", "scratchpad: log2 of the words of the input's ring"),
    Field("STORE_RING", 1, 16, 5, "uint", "scratchpad: log2 of the words of the output's ring"),
    Field("AUX_RING", 1, 21, 5, "uint", "scratchpad: log2 of the words of the AUX stream's ring"),
    Field("LOAD_ADDR", 2, 0, 32, "addr", "first input word"),
    Field("LOAD_C_STRIDE", 3, 0, 32, "int", "inner load stride"),
    Field("LOAD_X_STRIDE", 4, 0, 32, "int", "middle load stride"),
    Field("LOAD_Y_STRIDE", 5, 0, 32, "int", "outer load stride"),
    Field("LOAD_C_COUNT", 6, 0, LINEAR, "uint", "inner load count"),
    Field("LOAD_X_COUNT", 7, 0, 16, "uint", "middle load count"),
    Field("LOAD_Y_COUNT", 7, 16, 16, "uint", "outer load count"),
    Field("LOAD_WORDS", 8, 0, LINEAR, "uint", "product of the load counts: words of the input window"),
    Field("IN_ROW", 9, 0, LINEAR, "uint", "words of one input row in the buffer"),
    Field("IN_H", 10, 0, 16, "uint", "input rows: LOAD_WORDS / IN_ROW"),
    Field("Y0", 10, 16, 16, "int", "first output row's input row (minus the top pad)"),
    Field("X0", 11, 0, SIGNED_LINEAR, "int", "minus the left pad, in words"),
    Field("ROW0", 12, 0, SIGNED_LINEAR, "int", "Y0 * IN_ROW"),
    Field("KH", 13, 0, 8, "uint", "kernel rows"),
    Field("KX", 13, 8, 8, "uint", "kernel columns stepped one by one; 1 in run mode"),
    Field("KB", 13, 16, 16, "uint", "blocks of `rows` words in a run: ceil(RUN / rows); 1 when DIAGONAL"),
    Field("RUN", 14, 0, LINEAR, "uint", "contiguous words of a run (DIAGONAL: COUT, the channels)"),
    Field("DIL_Y", 15, 0, 8, "uint", "input rows per ky"),
    Field("STRIDE_Y", 15, 8, 8, "uint", "input rows per output row, at least 1"),
    Field("KY_STEP", 16, 0, LINEAR, "uint", "DIL_Y * IN_ROW; any when KH is 1"),
    Field("KX_STEP", 17, 0, LINEAR, "uint", "horizontal dilation in words"),
    Field("SX_WORDS", 18, 0, LINEAR, "uint", "input words per output column"),
    Field("SY_WORDS", 19, 0, LINEAR, "uint", "STRIDE_Y * IN_ROW; any when there is one output row"),
    Field("OUT_W", 20, 0, LINEAR, "uint", "output columns"),
    Field("OUT_PX", 21, 0, LINEAR, "uint", "output pixels (OUT_W * output rows)"),
    Field("STRIP_PX", 22, 0, 16, "uint", "pixels of a strip; STRIP_PX * CBG <= accumulator entries"),
    Field("CBG", 22, 16, 16, "uint", "channel blocks accumulated together"),
    Field("GROUPS", 23, 0, 16, "uint", "convolution groups (1 when DIAGONAL)"),
    Field("NCB", 23, 16, 16, "uint", "channel blocks per group: ceil(COUT / Cb)"),
    Field("COUT", 24, 0, 16, "uint", "output channels per group"),
    Field("FIRST_PX", 24, 16, 16, "uint", "pixels of the first strip, at most STRIP_PX"),
    Field("GROUP_IN_STEP", 25, 0, LINEAR, "uint", "input words per group"),
    Field("PAD_VALUE", 26, 0, 32, "fp32", "value of lanes outside the input"),
    Field("WEIGHT_ADDR", 27, 0, 32, "addr", "weight stream"),
    Field("WEIGHT_WORDS", 28, 0, LINEAR, "uint", "weight words per pass: its bytes, filled up to whole beats"),
    Field("PARAM_ADDR", 29, 0, 32, "addr", "scale and bias stream"),
    Field("PARAM_WORDS", 30, 0, LINEAR, "uint", "parameter words per pass, a multiple of ports"),
    Field("SCALE", 31, 0, 32, "fp32", "scale when UNIFORM"),
    Field("BIAS", 32, 0, 32, "fp32", "bias when UNIFORM (-0.0 with SCALE 1 is an exact identity)"),
    Field("SLOPE", 33, 0, 32, "fp32", "leaky slope"),
    Field("LOW", 34, 0, 32, "fp32", "lower clamp, -inf for none (ReLU: +0)"),
    Field("HIGH", 35, 0, 32, "fp32", "upper clamp, +inf for none"),
    Field("STORE_ADDR", 36, 0, 32, "addr", "first output word"),
    Field("STORE_C_STRIDE", 37, 0, 32, "int", "output stride per channel"),
    Field("STORE_X_STRIDE", 38, 0, 32, "int", "output stride per column"),
    Field("STORE_Y_STRIDE", 39, 0, 32, "int", "output stride per row"),
    Field("STORE_CB_STEP", 40, 0, 32, "int", "output step per channel block"),
    Field("STORE_G_STEP", 41, 0, 32, "int", "output step per group"),
    Field("AUX_ADDR", 42, 0, 32, "addr", "residual or accumulator initial values"),
    Field("AUX_C_STRIDE", 43, 0, 32, "int", "aux stride per channel"),
    Field("AUX_X_STRIDE", 44, 0, 32, "int", "aux stride per column"),
    Field("AUX_Y_STRIDE", 45, 0, 32, "int", "aux stride per row"),
    Field("AUX_CB_STEP", 46, 0, 32, "int", "aux step per channel block"),
    Field("AUX_G_STEP", 47, 0, 32, "int", "aux step per group"),
    Field("PROFILE_ADDR", 48, 0, 32, "addr", "profile record"),
    Field("MARK_WORDS", 49, 0, LINEAR, "uint", "words of the next input that each finished output pixel completes"),
    Field("MARK_BASE", 50, 0, LINEAR, "uint", "first words of the next input that were complete before"),
)
FIELD = {f.name: f for f in FIELDS}

PROFILE_RECORD = (
    "cycle",
    "busy",
    "array_active",
    "load_stall",
    "store_stall",
    "bus_words",
    "lanes_lost",
    "lanes_lossy",
)
"""Words of a profile record: the low words of the cycle counter and of the cumulative counters."""


def on_chip(fields: Fields, prefix: str) -> bool:
    """Whether a stream (LOAD, STORE, AUX) of a descriptor belongs in the scratchpad."""
    return split_address(fields.get(f"{prefix}_ADDR", 0))[0] == SCRATCHPAD


def split_address(where: int) -> tuple[int, int]:
    """(region, byte offset) of a descriptor address."""
    return where >> OFFSET_BITS, where & (1 << OFFSET_BITS) - 1


def address(region: int, offset: int) -> int:
    """Descriptor address of byte ``offset`` in ``region`` (0..3)."""
    if not 0 <= region < 4 or not 0 <= offset < 1 << OFFSET_BITS:
        raise HeepgenError(
            f"descriptor address: region {region}, offset {offset:#x} is out of range; "
            "regions are 0..3 and offsets below 0x40000000"
        )
    return region << OFFSET_BITS | offset


def pack(values: Fields) -> np.ndarray:
    """Descriptor words, uint32 [WORDS], from a mapping of field names to values; absent fields are 0.

    fp32 fields take a float or a NumPy float32. Raises HeepgenError for an unknown name or a value that
    does not fit its field.
    """
    words = np.zeros(WORDS, np.uint32)
    for name, value in values.items():
        if name not in FIELD:
            raise HeepgenError(f"descriptor field {name} does not exist")
        field = FIELD[name]
        if field.kind == "fp32":
            bits = int(np.float32(value).view(np.uint32))
        else:
            low, high = field.range
            if not low <= value <= high:
                raise HeepgenError(f"descriptor field {name} = {value} is outside {low}..{high}")
            bits = int(value) & ((1 << field.width) - 1)
        words[field.word] |= np.uint32(bits << field.lsb)
    return words


def unpack(words: np.ndarray) -> dict[str, Any]:
    """Mapping of field names to values (int, or np.float32 for fp32 fields) of a descriptor."""
    values: dict[str, Any] = {}
    for field in FIELDS:
        bits = (int(words[field.word]) >> field.lsb) & ((1 << field.width) - 1)
        if field.kind == "fp32":
            values[field.name] = np.uint32(bits).view(np.float32)
        elif field.kind == "int" and bits >> (field.width - 1):
            values[field.name] = bits - (1 << field.width)
        else:
            values[field.name] = bits
    return values
