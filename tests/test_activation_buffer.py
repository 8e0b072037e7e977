# SPDX-License-Identifier: Apache-2.0
"""Activation buffer against a plain array, any geometry, reads and writes every cycle."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.config import Config
from hls.descriptor.interface.timing import ACTIVATION_LATENCY
from hls.descriptor.memory.activation_buffer import Write, activation_buffer, rows_apart

GEOMETRIES = [(1, 1, 1), (4, 4, 1), (3, 5, 2), (8, 8, 2), (5, 2, 3), (16, 4, 4), (2, 1, 4)]


@pytest.mark.parametrize("rows, cols, ports, banded", [*((*g, True) for g in GEOMETRIES), (3, 5, 2, False)])
def test_reads_any_run(rows, cols, ports, banded):
    """Lanes are neighbours, or, banded, a multiple of the banks further apart."""
    config = Config(rows=rows, cols=cols, ports=ports, activation_words=256, banded=banded)
    rng = np.random.default_rng(rows * 100 + cols)
    size = config.activation_words
    depth = size // config.banks
    clk, wr, rd_addr, apart = Signal(bool(0)), Write(ports), Signal(intbv(0)[24:]), rows_apart(config)
    read = Signal(bool(0))
    lane_lo, lane_hi = (Signal(intbv(0)[rows.bit_length() :]) for _ in range(2))
    pad, vec = Signal(intbv(0x3F800000)[32:]), Signal(intbv(0)[32 * rows :])
    seen, expected = [], []

    @block
    def bench():
        dut = activation_buffer(clk, wr, read, rd_addr, apart, lane_lo, lane_hi, pad, vec, config=config)

        @instance
        def drive():
            memory = rng.integers(0, 1 << 32, size, dtype=np.uint64)
            position, lanes = 0, None
            for cycle in range(size // ports + 400):
                filling = position < size
                count = ports if filling else int(rng.integers(0, ports + 1))
                data = [int(x) for x in rng.integers(0, 1 << 32, ports, dtype=np.uint64)]
                if filling:
                    data = [int(memory[(position + i) % size]) for i in range(ports)]
                lo, hi = (int(x) for x in rng.integers(0, rows + 1, 2))
                start = int(rng.integers(0, 1 << 24))
                wr.valid.next, wr.pos.next, wr.count.next = count != 0, position, count
                wr.data.next = sum(x << (32 * i) for i, x in enumerate(data))
                more = int(rng.integers(0, depth)) if apart is not None and rng.random() < 0.7 else 0
                lowered, lane_step = start - start % config.banks * more * config.banks, 1 + config.banks * more
                rd_addr.next, lane_lo.next, lane_hi.next = lowered % (1 << 24), lo, hi
                if apart is not None:
                    apart.next = more
                read.next = reading = bool(rng.integers(0, 4))
                if not filling:
                    if reading:
                        lanes = [
                            int(memory[(start + i * lane_step) % size]) if lo <= i < hi else int(pad)
                            for i in range(rows)
                        ]
                    if lanes:  # they stay until the next read
                        expected.append((cycle + ACTIVATION_LATENCY, lanes))
                    for i in range(count):
                        memory[(position + i) % size] = data[i]
                position += count
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
                seen.append([int(vec) >> (32 * i) & 0xFFFFFFFF for i in range(rows)])

        return dut, drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    checked = [(lanes, seen[cycle - 1]) for cycle, lanes in expected if cycle <= len(seen)]
    assert len(checked) > 300
    assert all(want == got for want, got in checked)
