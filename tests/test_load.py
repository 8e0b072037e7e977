# SPDX-License-Identifier: Apache-2.0
"""Load engine against the loops written in Python, with random stalls; and its rate without any."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv
from obi import BeatMemory

from hls.config import Config
from hls.descriptor.interface.job import job_signals
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.memory.activation_buffer import Write
from hls.descriptor.memory.arbiter import Request
from hls.descriptor.memory.load import load_engine, load_job

SIZE = 256
WORDS = 4096
PASSED_OVER = -1


def window(f):
    """Word indices of the input window in linear order."""
    y, x, c = (np.arange(f[f"load_{n}_count"]) * f[f"load_{n}_stride"] for n in "yxc")
    words = f["load_addr"] // 4 + y[:, None, None] + x[:, None] + c
    words[..., len(c) - f["load_gap"] :] = PASSED_OVER
    return words.reshape(-1)


def simulate(ports, layers, ready=1.0, answer=1.0, use=1.0, store=None, seed=0, cycles=6000):
    """Load the layers back to back; words are released at random. Checks the buffer's contents at every cycle.

    With ``store``, the probability per cycle that more words become available, every second layer waits for them;
    all of its words become available in the end, ``load_open`` stays low. Returns cycles per layer.
    """
    rng = np.random.default_rng(seed)
    memory = BeatMemory(rng.integers(0, 1 << 32, WORDS, dtype=np.uint64).astype(np.uint32), ports, rng, ready, answer)
    clk, rst, start, load_open, done, left = (Signal(bool(0)) for _ in range(6))
    available, released, loaded = (Signal(intbv(0)[LINEAR:]) for _ in range(3))
    wr = Write(ports)
    config = Config(ports=ports, activation_words=SIZE)
    job, req = job_signals(load_job(config)), Request(ports)
    took = []

    @block
    def bench():
        dut = load_engine(
            clk,
            rst,
            start,
            job,
            load_open,
            available,
            released,
            req,
            memory.rsp_valid,
            memory.rsp_count,
            memory.rsp_data,
            wr,
            loaded,
            done,
            left,
            config=config,
        )

        @instance
        def drive():
            rst.next = 1
            for _ in range(2):
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
            rst.next = 0
            expected, buffer, free = [], {}, 0
            for number, fields in enumerate(layers):
                for name, value in fields.items():
                    getattr(job, name).next = value
                words, base = window(fields), sum(len(beat) for beat in memory.log)
                loaded_at = np.flatnonzero(words != PASSED_OVER)
                expected += [None if i == PASSED_OVER else int(memory.words[i]) for i in words]
                load_open.next = store is None or number % 2 == 0
                stored = 0
                for cycle in range(cycles):
                    start.next = cycle == 0
                    available.next = stored
                    released.next = free
                    yield delay(1)
                    if cycle == 0:
                        assert done
                    elif done:
                        assert loaded == len(expected)
                        break
                    if req.valid and not load_open:
                        asked = sum(len(beat) for beat in memory.log) - base
                        last = loaded_at[asked + int(req.count) - 1]
                        assert last < stored, "a word is read before it is stored"
                    if wr.valid:
                        for i in range(int(wr.count)):
                            assert int(wr.pos) + i < free + SIZE, "a word still needed is overwritten"
                            buffer[(int(wr.pos) + i) % SIZE] = int(wr.data[32 * i + 32 : 32 * i])
                    readable = int(loaded)  # in the next cycle
                    for i in range(free, readable):
                        assert expected[i] is None or buffer[i % SIZE] == expected[i]
                    clk.next = 1
                    yield delay(1)
                    clk.next = 0
                    if rng.random() < use and cycle > 1:
                        free = min(readable, free + int(rng.integers(0, 2 * ports + 1)))
                    if store is not None and rng.random() < store:
                        stored = min(len(words), stored + int(rng.integers(1, 6)))
                assert loaded == len(expected), "not all words arrived"
                took.append(cycle)

        return dut, memory.bench(clk, req), drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert len(took) == len(layers)
    return took


def layer(c, x, y, strides=None, addr=0x40, gap=0):
    c_stride, x_stride, y_stride = strides or (1, c, c * x)
    return {
        "load_addr": addr,
        "load_gap": gap,
        "load_c_count": c,
        "load_x_count": x,
        "load_y_count": y,
        "load_c_stride": c_stride,
        "load_x_stride": x_stride,
        "load_y_stride": y_stride,
        "load_addr_region": 1,
    }


def random_layers(seed):
    """Three small windows and one that wraps round the buffer."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(3):
        c, x, y = (int(n) for n in rng.integers(1, (12, 9, 9)))
        strides = [int(s) for s in rng.integers(-8, 9, 3)]
        layers.append(layer(c, x, y, strides, addr=4 * 1000, gap=int(rng.integers(0, c)) if rng.random() < 0.6 else 0))
    return [*layers, layer(700 + seed, 1, 1)]


@pytest.mark.parametrize("seed", range(10))
def test_windows_with_random_stalls(seed):
    simulate(1 + seed % 4, random_layers(seed), ready=0.7, answer=0.6, use=0.5, seed=seed)


@pytest.mark.parametrize("seed", range(8))
def test_waits_for_words_that_are_still_being_stored(seed):
    simulate(1 + seed % 4, random_layers(seed), ready=0.8, answer=0.6, use=0.8, store=0.4, seed=seed)


def test_nothing_is_read_before_it_is_stored():
    with pytest.raises(AssertionError, match="not all words"):
        simulate(2, [layer(4, 1, 1), layer(4, 1, 1)], store=0, cycles=200)


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_layers_share_the_buffer(ports):
    """What is left of the first layer stays until it is released, and the second gets no more than the rest."""
    half = SIZE // 2
    simulate(ports, [layer(half, 1, 1), layer(half - ports, 1, 1)], use=0)
    with pytest.raises(AssertionError, match="not all words"):
        simulate(ports, [layer(half, 1, 1), layer(half + 1, 1, 1)], use=0, cycles=400)
    simulate(ports, [layer(half, 1, 1), layer(half + 1, 1, 1)], use=0.1)


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_rate(ports):
    words = 240 * ports
    (cycles,) = simulate(ports, [layer(words, 1, 1)])
    print(f"P={ports}: {words} words in {cycles} cycles, bound {words // ports}")
    assert cycles < 300


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_fills_all_but_a_beat_of_the_buffer_when_nothing_is_released(ports):
    with pytest.raises(AssertionError, match="not all words"):
        simulate(ports, [layer(SIZE + 8, 1, 1)], use=0, cycles=400)
    for c in (1, ports, SIZE - ports):
        simulate(ports, [layer(c, (SIZE - ports) // c, 1)], use=0)
