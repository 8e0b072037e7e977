# SPDX-License-Identifier: Apache-2.0
"""The energy model: factors found again from what they made, and energies that add up."""

from types import SimpleNamespace

import numpy as np
import pytest

from firmware_gen.architectures.contract import LayerCycles
from gen.ppa.energy import model
from gen.ppa.energy.memory import accesses
from gen.ppa.energy.model import Sample, fitted, unit_energies_uj
from gen.ppa.energy.sampling import Phase
from hls.errors import HeepgenError
from sim.recording import Recording


def test_factors_are_found_again():
    rng = np.random.default_rng()
    samples = []
    for unit in ("drain", "control"):
        for _ in range(6):
            kge, cycles, work = rng.uniform(1, 50), int(rng.integers(100, 5000)), float(rng.uniform())
            work = work if unit == "drain" else 1.0
            samples.append(Sample(unit, kge, cycles, 0.7 * kge, (0.1 + 0.4 * work) * kge, work))
    found = fitted(samples)
    assert found["drain"] == pytest.approx({"clock": 0.7, "idle": 0.1, "work": 0.4}, rel=1e-3)
    assert found["control"] == pytest.approx({"clock": 0.7, "idle": 0.5, "work": 0.0}, rel=1e-3)


def test_factors_are_never_negative():
    samples = [Sample("drain", 1, 100, 1.0, data, work) for data, work in ((5.0, 0.1), (1.0, 0.9), (4.0, 0.2))]
    assert min(fitted(samples)["drain"].values()) >= 0


def test_energy_is_cycles_times_what_units_take(monkeypatch):
    known = {"drain": model.Factors(0.5, 0.25, 2.0), "control": model.Factors(1.0, 0.0, 0.0)}
    monkeypatch.setattr(model, "factors", lambda gated=False: known)
    layers = [LayerCycles(1000, drain=300), LayerCycles(500, on_cpu=True)]
    units = {"drain": SimpleNamespace(kge=10.0, leakage_uw=40.0), "control": SimpleNamespace(kge=2.0, leakage_uw=0.0)}
    config = SimpleNamespace(architecture="descriptor")
    found = unit_energies_uj(config, layers, SimpleNamespace(units=units), mhz=200)
    assert found["drain"] == pytest.approx((10 * (0.75 * 1500 + 2 * 300) + 0.2 * 1500) * 1e-6)
    assert found["control"] == pytest.approx(2 * 1500 * 1e-6)
    units["other"] = units["drain"]
    with pytest.raises(HeepgenError, match="no measured energies, as of its other"):
        unit_energies_uj(config, layers, SimpleNamespace(units=units))


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
