# SPDX-License-Identifier: Apache-2.0
"""The energy model: factors found again from what they made, and energies that add up."""

from dataclasses import astuple
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_gen.architectures.contract import LayerCycles
from gen.ppa.energy.memory import accesses
from gen.ppa.energy.model import Factors, Model, Rate, Sample, fitted
from gen.ppa.energy.sampling import Phase
from gen.ppa.sram import macro
from hls.config import Config
from hls.errors import HeepgenError
from sim.recording import Recording


def test_factors_are_found_again():
    """Of a unit that works now and then, and of one that always does, whose idle and work are one."""
    rng = np.random.default_rng()
    samples = []
    for unit in ("drain", "control"):
        for _ in range(6):
            kge, cycles, work = rng.uniform(1, 50), int(rng.integers(100, 5000)), float(rng.uniform())
            work = work if unit == "drain" else 1.0
            found = (0.7 * kge, (0.1 + 0.4 * work) * kge, 0.2 + 0.3 * work, 0.9 * work)
            samples.append(Sample(unit, kge, cycles, *found, work))
    factors = fitted(samples)
    found = {unit: [astuple(rate) for rate in vars(factors[unit]).values()] for unit in factors}
    for (idle, work), expected in zip(found["drain"], ((0.7, 0.0), (0.1, 0.4), (0.2, 0.3), (0.0, 0.9)), strict=True):
        assert (idle, work) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    for (idle, work), expected in zip(found["control"], (0.7, 0.5, 0.5, 0.9), strict=True):
        assert (idle, work) == pytest.approx((expected, 0.0), rel=1e-3)


def test_factors_are_never_negative():
    samples = [Sample("drain", 1, 100, data, data, 0, 0, work) for data, work in ((5.0, 0.1), (1.0, 0.9), (4.0, 0.2))]
    samples += [Sample("aux_reader", 1, 100, work - 0.2, work - 0.2, 0, 0, work) for work in (0.2, 0.5, 0.9)]
    for factors in fitted(samples).values():
        assert min(min(astuple(rate)) for rate in vars(factors).values()) >= 0


def test_energy_is_cycles_times_what_units_take():
    none = Rate(0.0, 0.0)
    found = Model(
        {
            "activation_buffer": Factors(Rate(0.5, 0.0), Rate(0.25, 2.0), Rate(0.1, 0.6), Rate(0.2, 0.0)),
            "control": Factors(Rate(1.0, 0.0), none, none, none),
        },
        cpu_accesses=1.5,
    )
    config = Config(rows=4, cols=4, ports=1, activation_words=4096)
    layers = [LayerCycles(1000, vectors=300, bus_words=70), LayerCycles(500, on_cpu=True)]
    units = {
        "activation_buffer": SimpleNamespace(kge=10.0, leakage_uw=40.0),
        "control": SimpleNamespace(kge=2.0, leakage_uw=0.0),
    }
    spent = found.units_uj(config, layers, SimpleNamespace(units=units), 200.0)
    one = macro(32, 4096 // config.banks)
    reads, writes = config.banks * (0.1 * 1500 + 0.6 * 300), config.banks * 0.2 * 1500
    pj = 10 * (0.75 * 1500 + 2 * 300) + reads * one.read_pj + writes * one.write_pj + 0.2 * 1500
    assert spent == pytest.approx({"activation_buffer": pj * 1e-6, "control": 2 * 1500 * 1e-6})
    bank = macro(32, config.bank_bytes // 4, ports=1)
    ram = (70 + 1.5 * 500) * bank.read_pj + config.memory_banks * bank.leakage_uw / 200 * 1500
    assert found.ram_uj(config, layers, 200.0) == pytest.approx(ram * 1e-6)
    whole = found.uj(config, layers, SimpleNamespace(units=units), 200.0)
    assert whole == pytest.approx((pj + 3000 + ram) * 1e-6)
    units["other"] = units["control"]
    with pytest.raises(HeepgenError, match="no measured energies of its units"):
        found.uj(config, layers, SimpleNamespace(units=units))


def test_accesses_of_a_phase_are_those_in_its_cycles():
    values = {
        "port0.granted": np.array([1, 0, 1]),
        "port0.refused": np.array([0, 1, 0]),
        "port0.written": np.array([0, 1, 1]),
        "cpu.asleep": np.array([0, 0, 0]),
    }
    counts = {"instructions granted": np.array([8, 4]), "data granted": np.array([0, 16])}
    run = Recording(np.array([0, 10, 20]), 40, values, counts, 20, True)
    # granted reads in 5 <= c < 10, writes in 20 <= c < 25; of the CPU's bins three quarters and one
    assert accesses(run, Phase("p", ((5, 25),))) == (5 + 8 * 15 / 20 + 4 * 5 / 20 + 16 * 5 / 20, 5)
