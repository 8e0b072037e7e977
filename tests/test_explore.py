# SPDX-License-Identifier: Apache-2.0
"""Exploration: spaces, the front, estimates against the cycle model, and what is kept."""

import csv
import dataclasses
import json
import os
import random
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.application.options import ImportOptions
from gen.cli import main
from gen.explore import judge, search, space
from gen.explore.bound import at_least
from gen.explore.exact import exactly, outputs
from gen.explore.fast import quickly
from gen.explore.front import front
from gen.explore.judge import Task
from gen.explore.prices import Price
from gen.explore.search import MODELLED, Limits, Scoring, Search
from gen.explore.space import Combinations, Space, config_of, described
from gen.explore.store import Judgement, Store
from gen.explore.subject import Network, Subject, unpacked
from gen.explore.workers import AHEAD, Here, Processes, workers
from gen.flows.explore import explored_models
from gen.flows.explore.explored_models import Model
from gen.flows.measure.run import run
from gen.flows.network.eval import evaluate
from gen.ppa.energy.model import prices_of
from hls.config import Config
from hls.errors import HeepgenError
from tests.test_sections import Block
from tests.test_sections import drawn as with_statistics


def network(model, shape, *configs):
    """A network for configurations of these forms."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    return Network.of("net", configs or (Config(),), lambda c: CodeGenerator(model.eval(), data, None, c, name="net"))


@pytest.fixture(scope="module")
def small():
    """Two convolutions and a Linear."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, 2), nn.Flatten(), nn.Linear(45, 7)]
    return network(nn.Sequential(*layers), (1, 2, 8, 8))


def example(name):
    torch.manual_seed(1)
    return network(NETWORKS[name].build(), NETWORKS[name].input_shape)


def few(**values):
    return Space((Config(),), {"rows": (2, 4), "cols": (2, 4, 8), **values})


@pytest.mark.parametrize(
    "text, numbers",
    [("8", (8,)), ("1..4", (1, 2, 3, 4)), ("4..16..4,1", (1, 4, 8, 12, 16)), (" 2, 2 ,1", (1, 2)), ("1..6..4", (1, 5))],
)
def test_ranges(text, numbers):
    assert space.integers(text, "--rows") == numbers


@pytest.mark.parametrize("text", ["", "x", "1,", "4..1", "1..9..0", "-1", "1...3", "1..99999999"])
def test_wrong_ranges_say_which(text):
    with pytest.raises(HeepgenError, match=r"--rows"):
        space.integers(text, "--rows")


def test_buffers_are_factors_or_sizes():
    found = Space((Config(),), {}, space.buffers("1/2,2,256:512:16:0", "--buffers")).combinations().configs
    sizes = [(c.activation_words, c.weight_bytes, c.accumulator_entries, c.scratchpad_words) for c in found]
    assert sizes == [(4096, 2048, 32, 2048), (16384, 8192, 128, 8192), (256, 512, 16, 0)]
    wide = Space((Config(),), {"rows": (16,), "cols": (16,)}, space.buffers("1/2,256:512:16:auto", "--buffers"))
    assert [c.scratchpad_words for c in wide.combinations().configs] == [8192, 16384], "of the array's own size"
    for wrong in ("0", "1/0", "1:2", "a", "", "1,", "1:2:3:x"):
        with pytest.raises(HeepgenError, match="--buffers"):
            space.buffers(wrong, "--buffers")


@pytest.mark.parametrize("size", [{}, {"rows": 16, "cols": 16}])
def test_a_scratchpad_of_the_usual_size_is_not_described(size):
    """Chosen or given, which is the same; another one is, whatever it would be elsewhere."""
    usual = Config(**size)
    given = dataclasses.replace(usual, scratchpad_words=int(usual.scratchpad_words))
    assert described(usual) == described(given) and "scratchpad_words" not in described(given)
    for words in (0, 4096, 8192, 16384):
        config = Config(**size, scratchpad_words=words)
        assert config_of(described(config)) == config


def test_illegal_combinations_are_counted_by_reason():
    found = Space((Config(),), {"rows": (8, 33, 40), "ports": (4, 5)}, space.buffers("1,16,1/3", "--buffers"))
    combinations = found.combinations()
    assert len(found) == 18 and len(combinations.configs) == 1
    assert sum(combinations.refused.values()) == 17 and any("rows = 33" in why for why in combinations.refused)


def test_an_option_that_no_architecture_has_is_refused():
    with pytest.raises(HeepgenError, match="sums"):
        Space((Config(),), {"sums": (2, 4)})


def test_configurations_are_the_same_again():
    config = Config(rows=3, ports=1, memory_banks_interleaved=(4, 4), functions=False)
    assert config_of(json.loads(json.dumps(described(config)))) == config


def test_front_is_that_of_all_pairs():
    rng = np.random.default_rng(5)
    for axes in (1, 2, 3, 4):
        costs = rng.integers(0, 6, (60, axes)).astype(float)
        worse = [any((o <= c).all() and (o < c).any() for o in costs) for c in costs]
        assert sorted(front(costs)) == [i for i, w in enumerate(worse) if not w]


def test_what_has_no_room_on_the_array_is_computed_by_the_cpu():
    """As `heepgen sw` and `estimate` do; the quick estimate and bounds know."""
    net = network(*product())
    sizes = {
        kib: Config(memory_banks=kib, memory_banks_interleaved=(), bank_kib=4, scratchpad_words=0)
        for kib in (12, 13, 16)
    }
    taken = quickly(net, [sizes[13], sizes[16]])
    exact = [exactly(net, sizes[13]), exactly(net, sizes[16])]
    assert exact[0].cycles > 3 * exact[1].cycles and exact[0].bottleneck == taken[0].bottleneck == "cpu"
    assert [own.cycles for own in taken] == [pytest.approx(own.cycles, rel=0.05) for own in exact]
    assert at_least(net, [sizes[13]])[0].cycles <= exact[1].cycles
    (why,) = quickly(net, [sizes[12]])
    with pytest.raises(HeepgenError, match="net does not fit"):
        exactly(net, sizes[12])
    assert "net does not fit" in why


def test_a_product_lies_as_each_array_reads_it():
    """Also where its planes take as many words as those of the array that the graph was made for."""
    torch.manual_seed(3)
    x = np.random.default_rng(2).standard_normal((1, 16, 16), np.float32)
    configs = [Config(rows=rows, cols=cols) for rows, cols in ((8, 8), (4, 8), (16, 4), (2, 16))]
    shared = Network.of("net", configs[:1], lambda c: CodeGenerator(Product(), x, None, c, name="net"))
    for config in configs:
        generator = CodeGenerator(Product(), x, None, config, name="net")
        (expected,) = generator.reference(x).outputs
        assert outputs(shared, config, x)[0].tobytes() == expected.tobytes(), config
        assert exactly(shared, config) == exactly(Network.of("net", [config], lambda _: generator), config)


def test_a_small_array_may_be_faster():
    """Weights of one image are the most of it: they take longer to enter a large array."""
    net = example("mnist-multi_layer")
    pair = [Config(rows=n, cols=n) for n in (4, 32)]
    exact = [exactly(net, config).cycles for config in pair]
    quick = [quickly(net, [config])[0].cycles for config in pair]
    assert exact[0] < exact[1] and quick[0] < quick[1]


def test_what_does_not_fit_is_said(small):
    tiny = Config(memory_banks=2, memory_banks_interleaved=(), bank_kib=4)
    (found,) = quickly(small, [tiny])
    assert isinstance(found, str) and "does not fit" in found
    with pytest.raises(HeepgenError, match="does not fit"):
        exactly(small, tiny)


class Counting(Here):
    """Remembers tasks, and ends after some."""

    def __init__(self, subject, most=None, how=judge.perform):
        super().__init__(subject, how)
        self.done, self.most = [], most

    def results(self, tasks):
        for task in tasks:
            if self.most is not None and len(self.done) >= self.most:
                raise KeyboardInterrupt
            self.done += [(task.stage, number) for number, _ in task.configs]
            yield self._how(self._subject, task)


def test_what_was_begun_goes_on(small, tmp_path):
    subject = Subject((small,))
    combinations = few(ports=(1, 2)).combinations()
    whole = Search(subject, combinations, Limits({}), Store(tmp_path / "whole.db"), Here(subject)).run(3, quiet)
    first, second = Counting(subject, 2), Counting(subject)
    with pytest.raises(KeyboardInterrupt):
        Search(subject, combinations, Limits({}), Store(tmp_path / "explore.db"), first).run(3, quiet)
    found = Search(subject, combinations, Limits({}), Store(tmp_path / "explore.db"), second).run(3, quiet)
    assert first.done and second.done and not set(first.done) & set(second.done)
    assert found.points == whole.points and found.recommended == whole.recommended
    third = Counting(subject)
    Search(subject, combinations, Limits({}), Store(tmp_path / "explore.db"), third).run(3, quiet)
    assert not third.done


def measured(subject, task):
    """The cycle model, and in place of the RTL four cycles in every hundred more."""
    if task.stage != "simulated":
        return judge.perform(subject, task)
    ((number, given),) = task.configs
    assert task.applications == (described_in_files(config_of(given)),)
    cycles = round(1.04 * exactly(subject.networks[0], config_of(given)).cycles)
    return [Judgement(number, "simulated", cycles, None, {"by_model": {"net": cycles}, "left_out": []})]


def described_in_files(config):
    return {"config": str(config).encode()}


def test_the_best_are_simulated_once(small, tmp_path):
    subject = Subject((small,))

    def search(store, confirm, most=None):
        own = Counting(subject, most, measured)
        combinations = few(ports=(1, 2)).combinations()
        with Store(tmp_path / store) as kept:
            here = Search(subject, combinations, Limits({}), kept, own, None, lambda c: (described_in_files(c),))
            try:
                return own.done, here.run(3, quiet, confirm), here.found(MODELLED)
            except KeyboardInterrupt:
                return own.done, None, None

    _, found, _ = search("a.db", 0)
    assert not found.simulated and found.stages["simulated"] == 0
    done, found, modelled = search("a.db", 2)
    run = [number for stage, number in done if stage == "simulated"]
    assert len(run) == 2 == found.stages["simulated"] and run[0] == modelled.recommended.number
    assert set(run) <= {point.number for point in modelled.front}
    for point in found.simulated:
        assert point.number in run and point.modelled == exactly(small, config_of(point.config)).cycles
        assert point.cycles == round(1.04 * point.modelled) and point.error == point.modelled / point.cycles - 1
    whole, _, _ = search("b.db", 2)
    first, _, _ = search("c.db", 2, len(whole) - 1)  # killed in between
    again, same, _ = search("c.db", 2)
    assert len(first) == len(whole) - 1 and [*first, *again] == whole and same == found
    assert search("c.db", 2)[0] == []


def test_what_is_run_is_an_application(model, monkeypatch):
    """Which its configuration compiles to; where one bit is another the design is out."""
    read = explored_models.Model.read(model, ImportOptions(), {})
    config, ran = Config(rows=2, cols=3, ports=1), []
    report = SimpleNamespace(network="net", total_cycles=700, bit_exact=True)

    def run(application, system):
        ran.append((application.manifest["name"], system))
        return report

    monkeypatch.setattr(explored_models, "run_application", run)
    monkeypatch.setattr(explored_models, "compared", lambda report: report)
    subject = Subject((read.network([config]),))
    task = Task("simulated", ((5, described(config)),), (read.application(config),))
    assert explored_models.judge_or_run(subject, task) == [
        Judgement(5, "simulated", 700, None, {"by_model": {"net": 700}, "left_out": []})
    ]
    assert ran == [("net", config)]
    report.bit_exact = False
    (found,) = explored_models.judge_or_run(subject, task)
    assert found.cycles is None and "other bits" in found.refused


def test_what_computes_the_same_is_scored_once(small, tmp_path):
    samples = np.random.default_rng(4).standard_normal((5, 2, 8, 8), np.float32)
    scored = []

    def of_bits(config):
        return zlib.crc32(outputs(small, config, samples)[0].tobytes()) / 2**32

    def score(config):
        scored.append(of_bits(config))
        return scored[-1]

    subject, scoring = Subject((small,)), Scoring("data", (samples,), score)
    values = {"rows": (3, 8), "arithmetic": ("aligned", "fma"), "ports": (1, 3), "activation_words": (256, 8192)}
    combinations = few(**values).combinations()

    def found(most=None):
        own = Counting(subject, most)
        with Store(tmp_path / "explore.db") as store:
            return Search(subject, combinations, Limits({}), store, own, scoring).run(3, quiet)

    with pytest.raises(KeyboardInterrupt):
        found(9)
    front = found().front
    assert len(scored) == len(set(scored)) and "accuracy" in found().axes
    assert len(set(scored)) > 1 and len(front) > len({point.accuracy for point in front})
    for point in front:
        assert point.accuracy == of_bits(config_of(point.config))


def test_accuracy_is_that_of_heepgen_eval(model, tmp_path):
    draw = np.random.default_rng(3)
    data = {"x": draw.standard_normal((60, 12), np.float32), "y": draw.integers(0, 4, 60)}
    np.savez(tmp_path / "data.npz", **data)
    np.savez(tmp_path / "other.npz", x=data["x"][:, :5], y=data["y"])
    options = ["--rows", "2,4", "--cols", "4", "--ports", "1", "-o", str(tmp_path / "out"), "--json", "-"]
    command = ["explore", str(model), *options, "--data", str(tmp_path / "data.npz")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    for point in json.loads(result.stdout)["front"]:
        report = evaluate(model, tmp_path / "data.npz", config_of(point["config"]))
        assert point["accuracy"] == report.scores["bit-exact"]
    said = CliRunner().invoke(main, [*command, "--data", str(tmp_path / "data.npz")])
    assert said.exit_code == 1 and "2 files for 1 models" in said.stderr
    said = CliRunner().invoke(main, [*command[:-1], str(tmp_path / "other.npz")])
    assert said.exit_code == 1 and "--data" in said.stderr and "[60, 5]" in said.stderr


def drawn(count, seed):
    """Configurations from the whole space."""
    draw = random.Random(seed)
    sizes = {
        "activation_words": (256, 8192, 8192, 8192),
        "weight_bytes": (256, 4096, 4096, 4096),
        "accumulator_entries": (16, 64, 64, 256),
        "scratchpad_words": (0, 512, 4096, 4096, 4096, 32768),
    }
    return [
        Config(
            rows=draw.randint(1, 32),
            cols=draw.randint(1, 32),
            ports=draw.randint(1, 4),
            arithmetic=draw.choice(("aligned", "fma")),
            int4_weights=draw.random() < 0.5,
            functions=draw.random() < 0.5,
            **{name: draw.choice(values) for name, values in sizes.items()},
        )
        for _ in range(count)
    ]


def tight_memories(count):
    """Of 52 to 64 KiB, mostly without a scratchpad."""
    return [
        {
            "memory_banks": 13 + n % 4,
            "memory_banks_interleaved": (),
            "bank_kib": 4,
            "scratchpad_words": 512 * (n % 3 == 0),
        }
        for n in range(count)
    ]


def made_up(config):
    """Areas that grow with what they do grow with; energies as they are."""
    buffers = config.activation_words + config.weight_bytes // 4 + config.scratchpad_words
    lut = 900 * config.ports + 30 * config.rows * config.cols
    return Price(dsp=config.rows * config.cols, lut=lut, bram=buffers, energy=prices_of(config))


def attention():
    """Layers of the array and of the CPU, which read the same input."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, x):
            return torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1)

    return Attention(), (1, 7, 6)


def depthwise():
    layers = [nn.Conv2d(3, 6, 3, 2), nn.SiLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(54, 8), nn.Sigmoid()), (1, 3, 14, 14)


def dense():
    return nn.Sequential(nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 10)), (1, 96)


def sectioned():
    """May be compiled with rows as columns."""
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), Block(6, 2, False)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return with_statistics(model, 1), (1, 1, 8, 10)


class Product(nn.Module):
    """Of its input with itself."""

    def forward(self, x):
        return x @ x.transpose(1, 2)


def product():
    """With small memories, in which there may be no room for it but on the CPU."""
    return Product(), (1, 48, 48)


MANY = [
    pytest.param(build, count, marks=pytest.mark.slow)
    for build, count in ((dense, 300), (depthwise, 300), (product, 60), (sectioned, 30))
]
BUILDS = [(attention, 8), (depthwise, 8), (sectioned, 2), (product, 12), (dense, 30), *MANY]


@pytest.mark.parametrize("build, count", BUILDS)
def test_bounds_cut_nothing_off_the_front(build, count, tmp_path, monkeypatch):
    """Against the cycle model of all points."""
    torch.manual_seed(count)
    net = network(*build(), *(Config(functions=on) for on in (True, False)))
    assert not (build is sectioned and not net.turned or build is product and not net.spare)
    small = tight_memories(count) if build is product else [{}] * count
    own = [dataclasses.replace(config, **memory) for config, memory in zip(drawn(count, count), small, strict=True)]
    combinations = Combinations(tuple(dict.fromkeys(own)))
    monkeypatch.setattr(search, "price_of", made_up)
    monkeypatch.setattr(search, "FEW", 10)
    subject, configs = Subject((net,)), combinations.configs
    plain = [described(config) for config in configs]
    every = judge.perform(subject, Task("exact", tuple(enumerate(plain, 1))))
    for config, found, least in zip(configs, every, at_least(net, configs), strict=True):
        if found.cycles is not None:
            assert least.cycles <= found.cycles and least.ram <= 1024 * found.found["ram_kib"], config
            (work,) = found.found["work"]
            assert all(of <= work[name] for name, of in asdict(least.work).items()), (config, least.work, work)
    for number, limits in enumerate(({}, {"lut": 1e9})):
        with Store(tmp_path / f"{number}.db") as store:
            assert store.numbers(plain) == list(range(1, len(plain) + 1))
            store.add(subject.key, every)
            whole = Search(subject, combinations, Limits(limits), store, Here(subject)).found()
            own = Search(subject, combinations, Limits(limits), store, Here(subject))
            found = own.run(count, quiet)
        assert {point.number for point in whole.front} <= own.known["fast"].keys()
        assert "uj" in whole.axes and "uj" in found.axes
        assert all(point.stage != "bound" for point in found.front)
        assert found.stages["bound"] == len(configs) and found.stages["fast"] == len(own.known["fast"])
        assert build is not dense or found.stages["fast"] < len(configs)


def quiet(what, done, total):
    pass


def test_limits_hold(small, tmp_path):
    subject = Subject((small,))
    combinations = few().combinations()
    search = Search(subject, combinations, Limits({}), Store(tmp_path / "a.db"), Here(subject)).run(0, quiet)
    cycles = sorted(point.cycles for point in search.points)
    limited = Limits({"cycles": cycles[2]})
    found = Search(subject, combinations, limited, Store(tmp_path / "a.db"), Here(subject)).run(0, quiet)
    assert found.over["cycles"] == sum(c > cycles[2] for c in cycles) and found.recommended.cycles <= cycles[2]
    assert found.nearest == {"cycles": min(c for c in cycles if c > cycles[2])}
    none = Search(subject, combinations, Limits({"cycles": 1}), Store(tmp_path / "a.db"), Here(subject)).run(0, quiet)
    assert none.recommended is None and not none.front


def test_several_networks(small):
    worst = Subject((Network("a", small.graphs), Network("b", small.graphs)))
    assert worst.combined([3, 5]) == 5
    assert Subject(worst.networks, (3, 1)).combined([3, 5]) == 3.5
    with pytest.raises(HeepgenError, match="--weights"):
        Subject(worst.networks, (1,))
    with pytest.raises(HeepgenError, match="two models"):
        Subject((small, small))


def test_another_subject_is_judged_anew(small):
    other = Network("other", small.graphs)
    assert Subject((small,)).key != Subject((other,)).key
    assert unpacked(Subject((small,)).packed).key == Subject((small,)).key


def test_a_store_that_is_none_is_refused(tmp_path):
    (tmp_path / "explore.db").write_text("no database at all, but long enough to be one" * 100)
    with pytest.raises(HeepgenError, match=r"explore\.db"):
        Store(tmp_path / "explore.db")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table judged (a)")
    with pytest.raises(HeepgenError, match="another version"):
        Store(tmp_path / "other.db")


def test_numbers_are_kept(tmp_path):
    with Store(tmp_path / "explore.db") as store:
        first = store.numbers([{"architecture": "cpu"}, {"architecture": "descriptor", "rows": 2}])
        store.add("s", [Judgement(first[1], "exact", 5, None, {"a": 1})])
    with Store(tmp_path / "explore.db") as store:
        assert store.numbers([{"rows": 2, "architecture": "descriptor"}]) == first[1:]
        assert store.config(first[0]) == {"architecture": "cpu"}
        assert store.judged("s")["exact"][first[1]].found == {"a": 1} and not store.judged("t")["exact"]
        with pytest.raises(HeepgenError, match="no point 9"):
            store.config(9)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    torch.manual_seed(2)
    layers = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)).eval()
    torch.export.save(torch.export.export(layers, (torch.zeros(1, 12),)), folder / "net.pt2")
    return folder / "net.pt2"


def test_the_command(model, tmp_path):
    options = ["--rows", "2,4", "--cols", "4,99", "--ports", "1", "-o", str(tmp_path / "out"), "--json", "-"]
    result = CliRunner().invoke(main, ["explore", str(model), *options])
    assert result.exit_code == 0, result.stderr
    found, read = json.loads(result.stdout), Model.read(model, ImportOptions(), {}).network([Config()])
    assert found["space"] == 4 and sum(found["refused"].values()) == 2
    assert found["recommended"] in found["front"] and found["recommended"]["stage"] == "exact"
    with (tmp_path / "out" / "points.csv").open() as file:
        rows = {int(row["point"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2
    for point in found["front"]:
        config = config_of(point["config"])
        taken = exactly(read, config)
        assert point["uj"] == pytest.approx(prices_of(config).uj(taken.work)) == float(rows[point["number"]]["uj"])
        assert int(rows[point["number"]]["cycles"]) == point["cycles"] and rows[point["number"]]["front"] == "true"
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "DATASHEET.md"))
    assert all(f"{found['recommended']['cycles']:,}" in words for words in (page, text))
    assert all("Where the energy goes" in words and "system RAM" in words for words in (page, text))
    most = str(0.9 * found["recommended"]["uj"])
    result = CliRunner().invoke(main, ["explore", str(model), *options, "--target-uj", most])
    less = json.loads(result.stdout)
    assert less["over"].get("uj") and all(point["uj"] <= float(most) for point in less["front"])


@pytest.mark.slow
def test_confirmed_as_heepgen_run(model, tmp_path):
    options = ["--rows", "4", "--cols", "4", "--ports", "1,2", "--confirm", "1", "-o", str(tmp_path), "--json", "-"]
    result = CliRunner().invoke(main, ["explore", str(model), *options])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    (one,) = found["simulated"]
    point = found["recommended"]
    assert (one["number"], one["cycles"], point["stage"]) == (point["number"], point["cycles"], "simulated")
    config = config_of(point["config"])
    assert run(model, config).total_cycles == one["cycles"]
    text, page = ((tmp_path / name).read_text() for name in ("DATASHEET.md", "report.html"))
    shown = f"{one['modelled']:,}", f"{100 * one['error']:+.2f}"
    assert all(words in own for words in shown for own in (text, page))
    with (tmp_path / "points.csv").open() as file:
        rows = {int(row["point"]): row for row in csv.DictReader(file)}
    assert [n for n, row in rows.items() if row["modelled"]] == [one["number"]]
    assert float(rows[one["number"]]["error"]) == one["error"]


def test_files_of_the_user_are_seen_before_anything_is_judged(model, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    said = CliRunner().invoke(main, ["explore", str(model), "-o", str(tmp_path)])
    assert said.exit_code == 1 and "report.html" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    said = CliRunner().invoke(main, ["explore", str(model), "-o", str(tmp_path / "report.html")])
    assert said.exit_code == 1 and "is a file" in said.stderr


def test_board(model, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "price_of", lambda config: Price(lut=9_000, ff=9_000, dsp=16, bram=8))
    options = ["--rows", "2", "--cols", "4", "--ports", "1", "-o", str(tmp_path / "out"), "--json", "-"]
    command = ["explore", str(model), *options, "--board", "nexys-a7", "--reserve-lut", "3400", "--max-dsp", "100"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["limits"] == {"lut": 60_000, "ff": 126_800, "dsp": 100, "bram": 135}
    assert "Nexys A7-100T" in (tmp_path / "out" / "DATASHEET.md").read_text()


@pytest.mark.parametrize("option, what", [("--max-lut", "LUT"), ("--max-kge", "kGE"), ("--target-uj", "energy")])
def test_a_limit_of_what_nobody_knows_is_refused(model, tmp_path, monkeypatch, option, what):
    monkeypatch.setattr(search, "price_of", lambda config: Price())
    result = CliRunner().invoke(main, ["explore", str(model), option, "5000", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1 and f"{what} is limited, and heepgen has no figures" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--rows", "a"),
        ("--arith", "exact"),
        ("--weights", "1,2"),
        ("--max-lut", "-1"),
        ("--board", "pynq-z1"),
        ("--reserve-lut", "10"),
        ("--scheduler", "tcp://127.0.0.1:9"),
    ],
)
def test_wrong_options_say_what(model, tmp_path, options):
    result = CliRunner().invoke(main, ["explore", str(model), *options, "-o", str(tmp_path / "out")])
    assert result.exit_code == 1 and options[0].strip("-").split("-")[-1] in result.stderr


def noted(subject, task):
    return [Judgement(number, task.stage, number, None, {}) for number, _ in task.configs]


def test_processes_perform_every_task(small, monkeypatch):
    """Also of more than are on their way, taken shortly before they begin."""

    def pool(count, context, initializer, given):
        return ThreadPoolExecutor(count, initializer=initializer, initargs=given)

    monkeypatch.setattr("gen.explore.workers.ProcessPoolExecutor", pool)
    taken = []

    def tasks():
        for number in range(40):
            taken.append(number)
            yield Task("fast", ((number, {}),))

    found = []
    for own in Processes(Subject((small,)), 2, noted).results(tasks()):
        found += [judgement.number for judgement in own]
        assert len(taken) <= len(found) + 2 * AHEAD
    assert sorted(found) == list(range(40))


def dies_once(subject, task):
    """A process that is killed at its first task."""
    flag = os.environ["HEEPGEN_TEST_FLAG"]
    if not os.path.exists(flag):
        open(flag, "w").close()
        os._exit(9)
    return [Judgement(number, task.stage, number, None, {}) for number, _ in task.configs]


@pytest.mark.slow
def test_tasks_of_a_process_that_dies_are_done(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HEEPGEN_TEST_FLAG", str(tmp_path / "died"))
    tasks = (Task("fast", ((number, {}),)) for number in range(20))
    found = [j.number for own in Processes(Subject((small,)), 2, dies_once).results(tasks) for j in own]
    assert (tmp_path / "died").exists() and sorted(found) == list(range(20))


@pytest.mark.slow
def test_workers_of_a_cluster_one_of_which_is_killed(small, tmp_path):
    distributed = pytest.importorskip("distributed")
    subject, combinations = Subject((small,)), few(ports=(1, 2, 3, 4)).combinations()
    alone = Search(subject, combinations, Limits({}), Store(tmp_path / "alone.db"), Here(subject)).run(4, quiet)
    killed = []

    with distributed.LocalCluster(3, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def kill(what, done, total):
            if what == "quick estimate" and done and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], 9)

        with workers(subject, scheduler=cluster.scheduler_address) as who:
            found = Search(subject, combinations, Limits({}), Store(tmp_path / "many.db"), who).run(4, kill)
    assert killed and found.points == alone.points and found.recommended == alone.recommended
