# SPDX-License-Identifier: Apache-2.0
"""The energy model: factors found again from what they made, and energies that add up."""

from types import SimpleNamespace

import numpy as np
import pytest

from firmware_gen.architectures.contract import LayerCycles
from gen.documents.measured import options
from gen.ppa.energy.memory import accesses
from gen.ppa.energy.model import RATES, Factors, Model, Sample, Work, fitted
from gen.ppa.energy.parts import BUFFERS, CONTROL, RAM
from gen.ppa.energy.sampling import Phase
from gen.ppa.sram import macro
from hls.config import Config
from hls.errors import HeepgenError
from sim.recording import Recording


def test_factors_are_found_again():
    """Of units that take something always, and more by what they do; whatever else is done."""
    rng = np.random.default_rng()
    rates = {
        "drain": {"cycles": 0.7, "drain": 0.4},
        "systolic_array_fma": {"vectors": 2.0, "weights": 0.3},
        "glue": {"cycles": 0.5},
    }
    samples = []
    for unit, own in rates.items():
        for _ in range(8):
            kge, work = rng.uniform(1, 50), {name: rng.uniform() for name in RATES} | {"cycles": 1.0}
            found = sum(rate * work[name] for name, rate in own.items())
            samples.append(
                Sample(unit, kge, rng.uniform(), found * kge, 2 * found * kge, found, 3 * found, 5 * kge, work)
            )
    factors = fitted(samples)
    for unit, own in rates.items():
        assert factors[unit].leakage == pytest.approx(5)
        for times, name in ((1, "clock"), (2, "data"), (1, "reads"), (3, "writes")):
            expected = {what: pytest.approx(times * rate, rel=1e-3) for what, rate in own.items()}
            assert {k: v for k, v in getattr(factors[unit], name).items() if v > 1e-6} == expected


def test_factors_are_never_negative():
    """An energy that falls where more is done would make bounds wrong."""
    rng = np.random.default_rng()
    for _ in range(20):
        works = [{name: rng.uniform() for name in RATES} | {"cycles": 1.0} for _ in range(6)]
        samples = [Sample("accumulators", 1, 1, *rng.uniform(size=5), work) for work in works]
        (factors,) = fitted(samples).values()
        assert all(
            rate > 0
            for rates in (factors.clock, factors.data, factors.reads, factors.writes)
            for rate in rates.values()
        )


def test_energy_is_what_is_done_times_what_units_take():
    nothing = {}
    found = Model(
        {
            "activation_buffer": Factors(
                {"cycles": 0.5}, {"cycles": 0.25, "vectors": 2.0}, {"vectors": 0.6}, {"bus": 0.2}, 4.0
            ),
            "control": Factors({"cycles": 1.0}, nothing, nothing, nothing, 0.0),
        },
        cpu_accesses=1.5,
    )
    config = Config(rows=4, cols=4, ports=1, activation_words=4096)
    work = Work.of([LayerCycles(1000, vectors=300, bus=80, bus_words=70), LayerCycles(500, on_cpu=True)])
    assert work == Work(1500, vectors=300, bus=80, bus_words=70, cpu=500)
    units = {"activation_buffer": SimpleNamespace(kge=10.0), "control": SimpleNamespace(kge=2.0)}
    prices = found.prices(config, SimpleNamespace(units=units), 200.0)
    one, bank = macro(32, 4096 // config.banks), macro(32, config.bank_bytes // 4, ports=1)
    accesses = config.banks * (0.6 * 300 * one.read_pj + 0.2 * 80 * one.write_pj)
    leakage = (10 * 4.0 + config.banks * one.leakage_uw) / 200
    pj = 10 * (0.75 * 1500 + 2 * 300) + accesses + leakage * 1500
    ram = (70 + 1.5 * 500) * bank.read_pj + config.memory_banks * bank.leakage_uw / 200 * 1500
    assert prices.by_part(work) == pytest.approx({BUFFERS: pj * 1e-6, CONTROL: 2 * 1500 * 1e-6, RAM: ram * 1e-6})
    assert prices.uj(work) == pytest.approx((pj + 3000 + ram) * 1e-6)
    units["other"] = units["control"]
    with pytest.raises(HeepgenError, match="no measured energies of its units"):
        found.prices(config, SimpleNamespace(units=units))


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


def test_what_options_change_is_told_by_network(tmp_path):
    """Measured again, a network's figures take the place of those that were there; what does not compile has none."""
    some, other, none = options.Taken(100, 2.0), options.Taken(80, 1.9), None
    options.write_options(tmp_path, [options.Option("a", "x", some, some), options.Option("a", "y", some, none)])
    options.write_options(tmp_path, [options.Option("a", "x", some, other), options.Option("b", "x", none, some)])
    found = options.read_options(tmp_path)
    assert {(one.option, one.network): one.having for one in found} == {
        ("a", "x"): other,
        ("a", "y"): none,
        ("b", "x"): some,
    }
    text = [*options.section(found, {"x": "X"})]
    assert "| a | 100 to 80 | 2.00 to 1.90 (-5.0 %) | - | - |" in text and "| b | - | - | - | - |" in text
    assert any("X, cycles | uJ | y, cycles | uJ" in line for line in text)
    assert [*options.section([], {})] == []


def test_an_option_is_counted_at_gate_level(tmp_path):
    """Figures of runs say so, and take the place of the model's."""
    modelled, less, more = options.Taken(100, 2.0), options.Taken(100, 1.0, 0.01), options.Taken(90, 1.1, 0.02)
    options.write_options(tmp_path, [options.Option("a", "x", modelled, modelled)])
    options.write_options(tmp_path, [options.Option("a", "x", less, more)])
    text = [*options.section(options.read_options(tmp_path), {})]
    assert "| a | 100 to 90 | 1.00 to 1.10 +- 0.02 (+10.0 %) |" in text


def test_an_option_is_taken_away_from_the_default():
    """Each alone, and all together, whichever way it is judged."""
    seen = []

    def judge(config):
        seen.append(config)
        return options.Taken(len(seen), 1.0)

    found = [*options.options("x", judge, lambda text: None, options.OPTIONAL)]
    without = {options.known_as(one): config for one, config in zip(options.OPTIONAL, seen[1:], strict=True)}
    assert seen[0] == Config() and [one.having.cycles for one in found] == [1] * len(found)
    assert not without["banded"].banded and without["banded"].functions
    assert not any(getattr(without["all"], name) for name in without if name != "all")
