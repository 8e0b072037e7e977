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
depend on it, and each of its finished pixels, with MARK_BLOCKS each channel block of a pixel, completes MARK_WORDS more
(0: none). AUX reads and stores never overlap.

Units: *addresses* are a region index in bits 31:30 (BASE/LIMIT register pair) and a byte offset in bits
29:0, which must be a multiple of 4. *Strides, steps and counts* are in 32-bit words unless said otherwise.

Loads, stores and aux reads of region 3 stay in the scratchpad, where there is one. The words of a beat must lie in
different banks there: C strides are 1, modulo its banks, of which there are 2**ceil(log2(ports)). The low *_RING bits
of a word index count, the others are those of the stream's first word: a stream goes round in an aligned ring of
2**RING words. BASE3 must be 0 then.

Loops, outermost first (dense: Cb = cols; diagonal: Cb = D = min(rows, cols); banded: Cb = 1)::

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

A convolution of one input channel whose windows move by F > 1 rows may have F rows side by side as channels, where that
saves vectors; kernel and top padding are multiples of F then. Sums are those of a dense vector of F*kw lanes. Where the
last rows are too few for that, the outputs that see them begin up to F - 1 rows above their windows, with weights of 0:
as in any dense vector such a lane counts for the shared exponent, and a NaN or an infinity in it makes these outputs
NaN.

A *banded* layer (BAND) is a depthwise convolution whose columns are COUT neighbouring outputs of a row, BAND input
pixels apart, which count as one pixel px. Lane i is input word ``row + p + i*KX_STEP`` with ``p = X0 + ox*SX_WORDS +
cb``, and carries data iff ``0 <= iy < IN_H`` and ``i < RUN``, in an output row's first vector also ``i >= FIRST_LANE``,
in its last one ``i < LAST_LANES``. KX_STEP is 1 modulo the banks of the activation buffer, which are
2**ceil(log2(max(rows, ports, cols))), so that all lanes lie in different ones; where pixels have fewer words, the last
LOAD_GAP of LOAD_C_COUNT are passed over, and no lane may read their place. Sums are those of a dense vector: the lanes
share an exponent, and a NaN or an infinity in one makes all COUT outputs NaN. Output j of channel cb is stored at
cb*STORE_CB_STEP + j*STORE_C_STRIDE, as below.

Output word of channel ``n = cb*Cb + j`` (n < COUT; banded: j < COUT) of group g at (oy, ox):

    STORE_ADDR + 4*(oy*STORE_Y_STRIDE + ox*STORE_X_STRIDE + g*STORE_G_STEP + cb*STORE_CB_STEP + j*STORE_C_STRIDE)

and likewise AUX_* for the residual or the accumulators' initial values.

Weight stream: for g, cbg, ky, kx, kb, cb one tile of rows*cols bytes, byte r*cols + c (diagonal: D bytes),
packed densely, zero padded at the end of a pass to WEIGHT_WORDS (a multiple of ports); used once per strip, and
read once in all where a pass fits the weight buffer. With INT4 a weight is half a byte, the first one the low half.
Banded: D bytes, the taps of a kernel row and zeros; weight (r, c) of the tile is tap r - BAND*c, 0 where there is none.
Parameter stream: for g, cb (all NCB) and j in range(ceil(Cb/ports)): ports scales, then ports biases; banded: for cb,
ports times its scale, then ports times its bias; PARAM_WORDS in all; used once per strip. With PACKED_SCALES, not of
banded layers, scales are bfloat16, upper halves of FP32 numbers: before the biases of an even j come ports words
with its scales in their upper halves and those of j + 1, if there are any, in the lower ones; an odd j has its biases.

Epilogue of every output, each step rounded: times its scale, plus its bias; combined with its AUX word if RESIDUAL,
unless ACT_FIRST; times SLOPE if negative and SLOPE_EN; clamped to LOW..HIGH; its function if FUNCTION; combined with
its AUX word if RESIDUAL and ACT_FIRST. *Combined*: their sum; with MULTIPLY, their product; with NEGATIVE too, the
product where the sign is set, the output elsewhere; a product takes SLOPE's multiplier, without SLOPE_EN therefore. AUX
strides of 0 read the same words again. TABLE_SLOT says which of two tables the function is read from; LOAD_TABLE loads
that one before the first output, and it stays until another is loaded in its place. What it holds before, no list can
know.

A descriptor whose fields contradict each other is refused with error DESCRIPTOR before any of it runs. The rules are
those below, products modulo the width of their field, and no loop count is 0; `rules` lists them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from hls.config import Config
from hls.errors import HeepgenError

WORDS = 52

CONTIGUOUS, ARENA, INTERLEAVED, SCRATCHPAD = range(4)
"""Regions of descriptor addresses as firmware uses them: constants in contiguous banks, activations, constants in
interleaved banks; and the one whose loads, stores and aux reads stay on chip where there is a scratchpad."""

OFFSET_BITS = 30
"""Of a byte offset in a descriptor address, below the region."""


@dataclass(frozen=True)
class Field:
    """One bit field: ``word`` index, ``lsb``, ``width`` in bits; ``kind`` is uint, int, addr or fp32.

    ``option``: of the configuration, without which hardware does not hold the field; "" for none.
    """

    name: str
    word: int
    lsb: int
    width: int
    kind: str
    doc: str
    option: str = ""

    @cached_property
    def attribute(self) -> str:
        """Of `Descriptor`; signals in the hardware have that name too."""
        return self.name.lower()

    @cached_property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer field."""
        if self.kind == "int":
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1

    def holds(self, value: int) -> bool:
        """Whether an integer field has room for a value."""
        low, high = self.range
        return low <= value <= high

    def held(self, config: Config) -> bool:
        """Whether hardware of this configuration has the field."""
        return not self.option or bool(getattr(config, self.option))


LINEAR = 24  # bits of a linear input word index
SIGNED_LINEAR = LINEAR + 2

Address = TypeVar("Address", covariant=True)
AddressT = TypeVar("AddressT")
Number: TypeAlias = float | np.float32


def _bits(default: float, *facts: Any) -> Any:
    return field(default=default, metadata={"bits": facts})


def _uint(word: int, lsb: int, width: int, doc: str, option: str = "") -> Any:
    return _bits(0, word, lsb, width, "uint", doc, option)


def _flag(word: int, lsb: int, doc: str) -> Any:
    return _uint(word, lsb, 1, doc)


def _int(word: int, lsb: int, width: int, doc: str) -> Any:
    return _bits(0, word, lsb, width, "int", doc)


def _address(word: int, doc: str, option: str = "") -> Any:
    return _bits(0, word, 0, 32, "addr", doc, option)


def _fp32(word: int, doc: str) -> Any:
    return _bits(0.0, word, 0, 32, "fp32", doc)


Loop: TypeAlias = tuple[int, int]
"""How often a stream steps, and by how many words."""


@dataclass(frozen=True)
class Output(Generic[Address]):
    """Addresses of the STORE or the AUX stream."""

    addr: Address
    ring: int
    c_stride: int
    x_stride: int
    y_stride: int
    cb_step: int
    g_step: int


@dataclass(frozen=True, kw_only=True)
class Descriptor(Generic[Address]):
    """One descriptor; a field that is not given is 0.

    ``Address`` is int for a descriptor with all addresses, as memory holds it, and whatever stands for an address
    before.
    """

    next: Address = _address(0, "next descriptor; ignored when LAST")
    last: int = _flag(1, 0, "end of list: raise DONE after the last store's response")
    barrier: int = _flag(1, 1, "the input may be what the previous descriptor stores")
    diagonal: int = _flag(1, 2, "column c takes lane c only; D channels per vector")
    max: int = _flag(1, 3, "accumulate by maximum instead of addition")
    unit_weights: int = _flag(1, 4, "diagonal: every weight is 1, there is no weight stream")
    uniform: int = _flag(1, 5, "SCALE and BIAS for all channels, there is no parameter stream")
    residual: int = _flag(1, 6, "combine outputs with the AUX stream in the epilogue")
    acc_init: int = _flag(1, 7, "initialise accumulators from the AUX stream (excludes RESIDUAL)")
    act_first: int = _flag(1, 8, "activation, and FUNCTION, before the AUX stream instead of after")
    slope_en: int = _flag(1, 9, "multiply negative values by SLOPE")
    profile: int = _flag(1, 10, "write a profile record to PROFILE_ADDR at the end")
    load_ring: int = _uint(1, 11, 5, "scratchpad: log2 of the words of the input's ring")
    store_ring: int = _uint(1, 16, 5, "scratchpad: log2 of the words of the output's ring")
    aux_ring: int = _uint(1, 21, 5, "scratchpad: log2 of the words of the AUX stream's ring")
    function: int = _flag(1, 26, "a function of every output, from the table in TABLE_SLOT")
    table_slot: int = _flag(1, 27, "where that table is")
    load_table: int = _flag(1, 28, "read the table of TABLE_SLOT before the first output")
    multiply: int = _flag(1, 29, "RESIDUAL: product with the AUX stream instead of the sum")
    negative: int = _flag(1, 30, "MULTIPLY: of negative values only")
    int4: int = _flag(1, 31, "weights of 4 bits")
    load_addr: Address = _address(2, "first input word")
    load_c_stride: int = _int(3, 0, 32, "inner load stride")
    load_x_stride: int = _int(4, 0, 32, "middle load stride")
    load_y_stride: int = _int(5, 0, 32, "outer load stride")
    load_c_count: int = _uint(6, 0, LINEAR, "inner load count")
    load_gap: int = _uint(6, LINEAR, 6, "last words of the inner loop, passed over in the buffer", "banded")
    load_x_count: int = _uint(7, 0, 16, "middle load count")
    load_y_count: int = _uint(7, 16, 16, "outer load count")
    load_words: int = _uint(8, 0, LINEAR, "product of the load counts: words of the input window")
    in_row: int = _uint(9, 0, LINEAR, "words of one input row in the buffer")
    in_h: int = _uint(10, 0, 16, "input rows: LOAD_WORDS / IN_ROW")
    y0: int = _int(10, 16, 16, "first output row's input row (minus the top pad)")
    x0: int = _int(11, 0, SIGNED_LINEAR, "minus the left pad, in words")
    row0: int = _int(12, 0, SIGNED_LINEAR, "Y0 * IN_ROW")
    kh: int = _uint(13, 0, 8, "kernel rows")
    kx: int = _uint(13, 8, 8, "kernel columns stepped one by one; 1 in run mode")
    kb: int = _uint(13, 16, 16, "blocks of `rows` words in a run: ceil(RUN / rows); 1 when DIAGONAL")
    run: int = _uint(14, 0, LINEAR, "contiguous words of a run (DIAGONAL: COUT, the channels)")
    dil_y: int = _uint(15, 0, 8, "input rows per ky")
    stride_y: int = _uint(15, 8, 8, "input rows per output row, at least 1")
    band: int = _uint(15, 16, 2, "banded: input pixels from one output to the next, 1 or 2; else 0")
    halves: int = _flag(15, 18, "four half accumulator banks: STRIP_PX * CBG <= half of the accumulator entries")
    packed_scales: int = _flag(15, 19, "scales of 16 bits, two in a word")
    first_lane: int = _uint(15, 20, 6, "BAND: lanes outside the input, on its left", "banded")
    last_lanes: int = _uint(15, 26, 6, "BAND: lanes before those outside the input, on its right", "banded")
    ky_step: int = _uint(16, 0, LINEAR, "DIL_Y * IN_ROW; any when KH is 1")
    kx_step: int = _uint(17, 0, LINEAR, "horizontal dilation in words; BAND: words from lane to lane")
    sx_words: int = _uint(18, 0, LINEAR, "input words per output column")
    sy_words: int = _uint(19, 0, LINEAR, "STRIDE_Y * IN_ROW; any when there is one output row")
    out_w: int = _uint(20, 0, LINEAR, "output columns")
    out_px: int = _uint(21, 0, LINEAR, "output pixels (OUT_W * output rows)")
    strip_px: int = _uint(22, 0, 16, "pixels of a strip; STRIP_PX * CBG <= accumulator entries")
    cbg: int = _uint(22, 16, 16, "channel blocks accumulated together")
    groups: int = _uint(23, 0, 16, "convolution groups (1 when DIAGONAL or BAND)")
    ncb: int = _uint(23, 16, 16, "channel blocks per group: ceil(COUT / Cb); BAND: channels")
    cout: int = _uint(24, 0, 16, "output channels per group; BAND: outputs of a vector, at most cols")
    first_px: int = _uint(24, 16, 16, "pixels of the first strip, at most STRIP_PX")
    group_in_step: int = _uint(25, 0, LINEAR, "input words per group")
    pad_value: Number = _fp32(26, "value of lanes outside the input")
    weight_addr: Address = _address(27, "weight stream")
    weight_words: int = _uint(28, 0, LINEAR, "weight words per pass: its bytes, filled up to whole beats")
    param_addr: Address = _address(29, "scale and bias stream")
    param_words: int = _uint(30, 0, LINEAR, "parameter words per pass, a multiple of ports")
    scale: Number = _fp32(31, "scale when UNIFORM")
    bias: Number = _fp32(32, "bias when UNIFORM (-0.0 with SCALE 1 is an exact identity)")
    slope: Number = _fp32(33, "leaky slope")
    low: Number = _fp32(34, "lower clamp, -inf for none (ReLU: +0)")
    high: Number = _fp32(35, "upper clamp, +inf for none")
    store_addr: Address = _address(36, "first output word")
    store_c_stride: int = _int(37, 0, 32, "output stride per channel")
    store_x_stride: int = _int(38, 0, 32, "output stride per column")
    store_y_stride: int = _int(39, 0, 32, "output stride per row")
    store_cb_step: int = _int(40, 0, 32, "output step per channel block")
    store_g_step: int = _int(41, 0, 32, "output step per group")
    aux_addr: Address = _address(42, "residual or accumulator initial values")
    aux_c_stride: int = _int(43, 0, 32, "aux stride per channel")
    aux_x_stride: int = _int(44, 0, 32, "aux stride per column")
    aux_y_stride: int = _int(45, 0, 32, "aux stride per row")
    aux_cb_step: int = _int(46, 0, 32, "aux step per channel block")
    aux_g_step: int = _int(47, 0, 32, "aux step per group")
    profile_addr: Address = _address(48, "profile record")
    mark_words: int = _uint(49, 0, LINEAR, "words of the next input that each finished output pixel completes")
    table_rows: int = _uint(49, 24, 8, "words of the table, in eights", "functions")
    mark_base: int = _uint(50, 0, LINEAR, "first words of the next input that were complete before")
    mark_blocks: int = _flag(50, LINEAR, "MARK_WORDS for every finished channel block of a pixel")
    table_addr: Address = _address(51, "table of the function; not in the scratchpad", "functions")

    def but(self, **values: Any) -> "Descriptor[Address]":
        """With other values of some fields; ten times as fast as `replace`, which sets all of them."""
        if not values.keys() <= self.__dict__.keys():
            raise TypeError(f"a descriptor has no {', '.join(sorted(values.keys() - self.__dict__.keys()))}")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **values)
        return other

    def __getitem__(self, name: str) -> Any:
        """Value of the field of that name in `FIELDS`."""
        return getattr(self, name.lower())

    @property
    def load_loops(self) -> tuple[Loop, Loop, Loop]:
        """Of the words that are loaded, innermost first."""
        return (
            (self.load_c_count - self.load_gap, self.load_c_stride),
            (self.load_x_count, self.load_x_stride),
            (self.load_y_count, self.load_y_stride),
        )

    def output_loops(self, output: "Output[object]") -> tuple[Loop, Loop, Loop, Loop]:
        """Of the words of STORE or AUX, innermost first, where all channels of a group lie evenly."""
        return (
            (self.cout, output.c_stride),
            (self.ncb, output.cb_step) if self.band else (self.groups, output.g_step),
            (self.out_w, output.x_stride),
            (self.out_px // self.out_w, output.y_stride),
        )

    @property
    def store(self) -> "Output[Address]":
        return Output(
            addr=self.store_addr,
            ring=self.store_ring,
            c_stride=self.store_c_stride,
            x_stride=self.store_x_stride,
            y_stride=self.store_y_stride,
            cb_step=self.store_cb_step,
            g_step=self.store_g_step,
        )

    @property
    def aux(self) -> "Output[Address]":
        return Output(
            addr=self.aux_addr,
            ring=self.aux_ring,
            c_stride=self.aux_c_stride,
            x_stride=self.aux_x_stride,
            y_stride=self.aux_y_stride,
            cb_step=self.aux_cb_step,
            g_step=self.aux_g_step,
        )


FIELDS = tuple(Field(f.name.upper(), *f.metadata["bits"]) for f in fields(Descriptor))
FIELD = {f.name: f for f in FIELDS}
_VALUES = attrgetter(*(f.attribute for f in FIELDS))

Linked: TypeAlias = Descriptor[int]
"""With descriptor addresses: what a list in memory holds."""

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


def on_chip(where: int) -> bool:
    """Whether a descriptor address of a load, store or aux read belongs in the scratchpad."""
    return split_address(where)[0] == SCRATCHPAD


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


def misfits(descriptor: Descriptor[object]) -> list[str]:
    """Counts, steps and flags with their values, where a value does not fit its field."""
    return [
        f"{f.name} = {v}" for f, v in zip(FIELDS, _VALUES(descriptor)) if f.kind in ("uint", "int") and not f.holds(v)
    ]


def located(descriptor: Descriptor[AddressT], resolve: Callable[[AddressT], int]) -> Linked:
    """The descriptor with what `resolve` makes of its addresses."""
    return Descriptor(
        **{f.attribute: resolve(v) if f.kind == "addr" else v for f, v in zip(FIELDS, _VALUES(descriptor))}
    )


def pack(descriptor: Linked) -> np.ndarray:
    """Words of a descriptor, uint32 [WORDS]. Raises HeepgenError for a value that does not fit its field."""
    words = [0] * WORDS
    for f, value in zip(FIELDS, _VALUES(descriptor)):
        if f.kind == "fp32":
            bits = int(np.float32(value).view(np.uint32))
        elif f.holds(value):
            bits = int(value) & ((1 << f.width) - 1)
        else:
            low, high = f.range
            raise HeepgenError(f"descriptor field {f.name} = {value} is outside {low}..{high}")
        words[f.word] |= bits << f.lsb
    return np.array(words, np.uint32)


def unpack(words: np.ndarray) -> Linked:
    """The descriptor with these words; values of fp32 fields are np.float32."""
    values: dict[str, Any] = {}
    for f in FIELDS:
        bits = (int(words[f.word]) >> f.lsb) & ((1 << f.width) - 1)
        if f.kind == "fp32":
            values[f.attribute] = np.uint32(bits).view(np.float32)
        elif f.kind == "int" and bits >> (f.width - 1):
            values[f.attribute] = bits - (1 << f.width)
        else:
            values[f.attribute] = bits
    return Descriptor(**values)
