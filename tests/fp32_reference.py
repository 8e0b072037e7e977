# SPDX-License-Identifier: Apache-2.0
"""Independent FP32 arithmetic on exact integers, operand generators and simulation drivers for the tests."""

import numpy as np
from hypothesis import strategies as st
from myhdl import Signal, Simulation, StopSimulation, always, delay, instance, intbv

from hls.lib.convert import convert
from sim.rtl import simulate_module
from sim.toolchain import lint

NAN = 0x7FC00000
SPECIALS = [
    0x00000000,
    0x80000000,
    0x00000001,
    0x80000001,
    0x00000002,
    0x007FFFFF,
    0x807FFFFF,
    0x00800000,
    0x80800000,
    0x00800001,
    0x3F800000,
    0xBF800000,
    0x3F800001,
    0x3F7FFFFF,
    0xBF7FFFFF,
    0x7F7FFFFF,
    0xFF7FFFFF,
    0x7F7FFFFE,
    0x7F800000,
    0xFF800000,
    0x7FC00000,
    0xFFC00000,
    0x7F800001,
    0xFFFFFFFF,
    0x4B800000,
    0x4B7FFFFF,
    0x33800000,
    0x33800001,
    0x33000000,
    0x34000000,
    0x1E3CE508,
    0x00400000,
]


def fp32_bits():
    """Hypothesis: bit patterns; half of them special, the others with exponents close to each other."""
    near = st.builds(
        lambda s, e, f: s << 31 | e << 23 | f,
        st.integers(0, 1),
        st.integers(118, 136),
        st.one_of(st.integers(0, 0x7FFFFF), st.sampled_from([0, 1, 0x400000, 0x7FFFFF])),
    )
    return st.one_of(st.sampled_from(SPECIALS), near, st.integers(0, 0xFFFFFFFF))


def random_bits(rng, n):
    """n bit patterns: uniform ones, specials, close exponents, subnormals, few significant bits."""
    sign = rng.integers(0, 2, n, dtype=np.uint32) << 31
    fraction = rng.integers(0, 1 << 23, n, dtype=np.uint32)
    shift = rng.integers(0, 24, n).astype(np.uint32)
    few = fraction & (np.uint32(0x7FFFFF) << shift) & 0x7FFFFF
    kinds = [
        rng.integers(0, 1 << 32, n, dtype=np.uint32),
        rng.choice(np.array(SPECIALS, np.uint32), n),
        sign | rng.integers(112, 142, n, dtype=np.uint32) << 23 | fraction,
        sign | rng.integers(112, 142, n, dtype=np.uint32) << 23 | few,
        sign | rng.integers(0, 10, n, dtype=np.uint32) << 23 | fraction >> shift,
        sign | rng.integers(244, 256, n, dtype=np.uint32) << 23 | few,
    ]
    return np.choose(rng.integers(0, len(kinds), n), kinds).astype(np.uint32)


def is_nan(x):
    return x & 0x7FFFFFFF > 0x7F800000


def is_inf(x):
    return x & 0x7FFFFFFF == 0x7F800000


def to_exact(x):
    """Finite pattern -> n with value n * 2**-149."""
    e = x >> 23 & 0xFF
    n = x & 0x7FFFFF
    if e:
        n = (n | 0x800000) << (e - 1)
    return -n if x >> 31 else n


def round_exact(n, scale, zero_sign):
    """n * 2**-scale rounded to nearest even, as bits; an exact zero gets zero_sign."""
    if n == 0:
        return zero_sign << 31
    sign, n = n < 0, abs(n)
    drop = max(n.bit_length() - 24, scale - 149)  # weight of the result's last place, in units of 2**-scale
    if drop > 0:
        quotient, rest, half = n >> drop, n & ((1 << drop) - 1), 1 << (drop - 1)
        n = quotient + (rest > half or (rest == half and quotient & 1))
    else:
        n <<= -drop
    exponent = drop - scale
    if n == 1 << 24:
        n, exponent = n >> 1, exponent + 1
    field = exponent + 150 if n >> 23 else 0
    if field >= 255:
        return sign << 31 | 0x7F800000
    return sign << 31 | field << 23 | n & 0x7FFFFF


def fma_exact(a, w, c):
    """a * w + c for FP32 patterns a, c and integer w, correctly rounded."""
    w_sign = int(w < 0)
    sign_p = a >> 31 ^ w_sign
    if is_nan(a) or is_nan(c) or (is_inf(a) and (w == 0 or (is_inf(c) and sign_p != c >> 31))):
        return NAN
    if is_inf(c):
        return c
    if is_inf(a):
        return sign_p << 31 | 0x7F800000
    product = to_exact(a) * w
    both_zero = product == 0 and to_exact(c) == 0
    return round_exact(product + to_exact(c), 149, sign_p & (c >> 31) if both_zero else 0)


def mul_exact(a, b):
    """a * b for FP32 patterns, correctly rounded."""
    sign = (a ^ b) >> 31
    zero = a & 0x7FFFFFFF == 0 or b & 0x7FFFFFFF == 0
    if is_nan(a) or is_nan(b) or ((is_inf(a) or is_inf(b)) and zero):
        return NAN
    if is_inf(a) or is_inf(b):
        return sign << 31 | 0x7F800000
    return round_exact(to_exact(a) * to_exact(b), 298, sign)


def bus(width, value=0):
    return Signal(bool(value)) if width == 1 else Signal(intbv(value)[width:])


def simulate(make, inputs, outputs, vectors):
    """Outputs of a clocked block before each rising edge, as a list of tuples.

    make(clk, **signals) gives the block; inputs and outputs map names to widths; each of vectors gives the
    input values, in the order of inputs, held during one cycle.
    """
    clk = Signal(False)
    ports = {name: bus(width) for name, width in {**inputs, **outputs}.items()}
    dut = make(clk=clk, **ports)
    seen = []

    @always(delay(1))
    def clock():
        clk.next = not clk

    @instance
    def drive():
        for vector in vectors:
            for name, value in zip(inputs, vector, strict=True):
                ports[name].next = int(value) if len(ports[name]) > 1 else bool(value)
            yield delay(0)
            yield delay(0)
            seen.append(tuple(int(ports[name]) for name in outputs))
            yield clk.posedge
            yield clk.negedge
        raise StopSimulation

    Simulation(dut, clock, drive).run(quiet=1)
    return seen


_TESTBENCH = """
#include "V{top}.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>
int main(int, char** argv) {{
    V{top} dut;
    std::vector<uint32_t> in({words}), out({lanes});
    FILE* source = fopen(argv[1], "rb");
    while (fread(in.data(), 4, in.size(), source) == in.size()) {{
        dut.clk = 0;
{assign}
        dut.eval();
{sample}
        fwrite(out.data(), 4, out.size(), stdout);
        dut.clk = 1;
        dut.eval();
    }}
}}
"""


def verilate_and_run(unit, inputs, outputs, vectors, tmp_path):
    """Like `simulate`, on the linted, converted Verilog.

    vectors and the result are uint32 arrays [cycles, words]. A port wider than 32 bits takes
    ceil(width / 32) consecutive words, least significant first.
    """
    top = unit.call.unit.__name__
    files = convert(unit, tmp_path / "v")
    lint(files, top)

    def sizes(ports):
        return [-(-width // 32) for width in ports.values()]

    def lines(ports, one, two, many):
        at = 0
        for name, n in zip(ports, sizes(ports), strict=True):
            form = one if n == 1 else two if n == 2 else many
            yield from (form.format(name=name, at=at + i, i=i) for i in range(1 if n == 2 else n))
            at += n

    text = _TESTBENCH.format(
        top=top,
        words=sum(sizes(inputs)),
        lanes=sum(sizes(outputs)),
        assign="\n".join(
            lines(inputs, "dut.{name} = in[{at}];", "memcpy(&dut.{name}, &in[{at}], 8);", "dut.{name}[{i}] = in[{at}];")
        ),
        sample="\n".join(
            lines(
                outputs,
                "out[{at}] = dut.{name};",
                "memcpy(&out[{at}], &dut.{name}, 8);",
                "out[{at}] = dut.{name}[{i}];",
            )
        ),
    )
    vectors = np.ascontiguousarray(vectors, np.uint32)
    assert vectors.shape[1] == sum(sizes(inputs))
    source = tmp_path / "vectors.bin"
    vectors.tofile(source)
    result = simulate_module(files, top, text, [source], text=False, optimise="-O2")
    return np.frombuffer(result, np.uint32).reshape(-1, sum(sizes(outputs)))
