# SPDX-License-Identifier: Apache-2.0
"""FIFO against a queue, with random traffic on both sides."""

from collections import deque

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.lib.fifo import fifo


@pytest.mark.parametrize("depth, push, pop", [(2, 0.5, 0.5), (2, 1, 1), (4, 0.9, 0.4), (8, 0.4, 0.9), (8, 0.7, 0.7)])
def test_queue(depth, push, pop):
    rng = np.random.default_rng(depth)
    clk, rst, in_valid, in_ready, out_valid, out_ready = (Signal(bool(0)) for _ in range(6))
    in_data, out_data = (Signal(intbv(0)[8:]) for _ in range(2))
    queue, passed = deque(), [0]

    @block
    def bench():
        dut = fifo(clk, rst, in_valid, in_ready, in_data, out_valid, out_ready, out_data, width=8, depth=depth)

        @instance
        def drive():
            for cycle in range(1500):
                rst.next = cycle < 2 or rng.random() < 0.01
                in_valid.next = rng.random() < push
                out_ready.next = rng.random() < pop
                in_data.next = int(rng.integers(0, 256))
                yield delay(1)
                if cycle >= 2:
                    assert in_ready == (len(queue) < depth)
                    assert out_valid == bool(queue)
                    assert not queue or out_data == queue[0]
                taken = in_valid and in_ready
                if out_valid and out_ready:
                    passed[0] += 1
                    queue.popleft()
                if taken:
                    queue.append(int(in_data))
                if rst:
                    queue.clear()
                clk.next = 1
                yield delay(1)
                clk.next = 0

        return dut, drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert passed[0] > 400


def test_depth():
    bits = [Signal(bool(0)) for _ in range(6)]
    data = [Signal(intbv(0)[8:]) for _ in range(2)]
    with pytest.raises(ValueError, match="depth 3"):
        fifo(*bits[:4], data[0], *bits[4:], data[1], width=8, depth=3)
