# SPDX-License-Identifier: Apache-2.0
"""Several networks in one application, which take turns in one arena."""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.memory.planner import Demand, DoesNotFit, locate_together, rounded
from gen.cli import main
from gen.flows.measure.run import run_program
from gen.flows.network.application import opened_folder
from gen.flows.network.several import generate_several
from hls.config import Config
from hls.errors import HeepgenError
from sim.elf import symbols
from sim.firmware import compile_firmware
from tests.applications import everything
from tests.json_forms import form_errors

CONFIG = Config(rows=4, cols=4, ports=1)


class Picture(nn.Module):
    """Softmax on the CPU, and two outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 5, 3), nn.Linear(80, 7)

    def forward(self, x):
        y = torch.relu(self.first(x))
        return torch.softmax(self.last(y.flatten(1)), -1), y


MODELS = {
    "picture": (Picture(), (1, 2, 6, 6)),
    "sound wave": (nn.Sequential(nn.Linear(23, 9), nn.ReLU(), nn.Linear(9, 4)), (1, 23)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, (model, shape)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        torch.export.save(torch.export.export(model.eval(), (torch.zeros(shape),)), folder / f"{name}.pt2")
    return [folder / f"{name}.pt2" for name in MODELS]


@pytest.fixture(scope="module")
def app(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "app"
    report = generate_several(models, CONFIG, folder)
    return folder, report


def heepgen(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def said(*arguments):
    """The sentence of a command that fails."""
    result = heepgen(*arguments)
    assert result.exit_code
    return " ".join(result.stderr.split("heepgen: error: ")[-1].split())


def compare_with_pytorch(report, application):
    for network, own in zip(report.networks, application.networks, strict=True):
        model, shape = MODELS[network.network]
        (values,) = own.reference["inputs"]
        with torch.no_grad():
            exact = model(torch.tensor(values).reshape(shape))
        exact = exact if isinstance(exact, tuple) else (exact,)
        for found, wanted in zip(network.outputs, exact, strict=True):
            scale = max(1.0, float(wanted.abs().max()))
            np.testing.assert_allclose(found, wanted.numpy(), atol=0.02 * scale)


def test_both_run_on_the_accelerator_and_every_bit_is_the_models(app, tmp_path):
    folder, _ = app
    report = run_program(folder, CONFIG, trace=tmp_path / "trace.json")
    assert report.bit_exact and not report.missing and not report.exit_code
    compare_with_pytorch(report, opened_folder(folder))
    for network in report.networks:
        assert 0 < sum(layer.cycles for layer in network.layers) <= network.total_cycles
    assert not form_errors(json.loads(json.dumps(report.to_dict())))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    layers = [event["args"]["layer"] for event in events if event["ph"] == "X" and event["args"].get("layer")]
    assert {"picture: first", "picture: last", "sound wave: 0", "sound wave: 2"} <= set(layers)
    times = [(e["ts"], e["args"]["layer"].split(":")[0]) for e in events if e["ph"] == "X" and "layer" in e["args"]]
    assert [name for name, _ in itertools.groupby(name for _, name in sorted(times))] == list(MODELS)


def test_the_program_on_the_cpu_alone(app):
    report = run_program(app[0], CONFIG, software=True)
    assert report.bit_exact and len(report.networks) == 2
    compare_with_pytorch(report, opened_folder(app[0]))


def test_a_wrong_bit_of_the_first_network_is_noticed_after_the_second_one_ran(app, tmp_path, monkeypatch):
    folder, _ = app
    source = tmp_path / "late.cpp"
    source.write_text(
        (folder / "main.cpp")
        .read_text()
        .replace(
            "return net_picture::model_check(status, cycles);",
            "const_cast<float*>(net_picture::model_output(1))[3] += 1.0f;\n"
            "  return net_picture::model_check(status, cycles);",
        )
    )
    from gen.flows.network.program import Own

    report = run_program(folder, CONFIG, software=True, own=Own((source,)))
    assert [network.bit_exact for network in report.networks] == [False, True] and report.exit_code == 2


def test_a_program_that_runs_one_of_them(app, tmp_path):
    source = tmp_path / "one.cpp"
    source.write_text(
        '#include "sound_wave/check.hpp"\n#include "sound_wave/sample.hpp"\n'
        "int main() {\n  net_sound_wave::model_load_sample();\n"
        "  const heepstor::Status status = net_sound_wave::model_run();\n"
        "  return net_sound_wave::model_check(status, 1);\n}\n"
    )
    result = heepgen("run", app[0], "--software", "--source", source, "--json", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["missing"] == ["picture"] and not form_errors(document)
    assert [network["network"] for network in document["networks"]] == ["sound wave"]


def test_memory_is_all_constants_and_the_largest_arena(app):
    folder, report = app
    application = opened_folder(folder)
    for mode in ("accelerator", "software"):
        manifests = [network.manifest for network in application.networks]
        (arena,) = {manifest[mode]["arena"] for manifest in manifests}
        elf = compile_firmware(
            *everything(application),
            application.manifest[mode]["defines"],
            CONFIG,
            folder.parent / f"{mode}.elf",
            placements=application.manifest[mode]["placements"],
        )
        found = symbols(elf)
        assert {found[manifest["symbols"]["arena"]] for manifest in manifests} == {arena}
    places = [(c["address"], c["size"]) for n in report.networks for c in n.memory["constants"]]
    size = max(network.memory["arena_bytes"] for network in report.networks)
    assert report.memory["arena_bytes"] == size
    apart([*places, (found_arena(application), size)], CONFIG.ram_bytes)


def found_arena(application):
    return application.networks[0].manifest["accelerator"]["arena"]


def apart(places, end):
    """No two overlap, and none is outside the memory."""
    last = 0
    for address, size in sorted(places):
        assert address >= last
        last = address + size
    assert last <= end


@pytest.mark.parametrize("seed", range(20))
def test_random_demands_lie_apart_or_are_refused_by_name(seed):
    draw = random.Random(seed)
    config = Config(memory_banks=draw.randint(2, 6), memory_banks_interleaved=draw.choice([(), (2,), (4,), (2, 8)]))
    demands = [
        Demand(
            f"net{i}", [(f"w{j}", draw.randint(1, 30_000)) for j in range(draw.randint(1, 8))], draw.randint(4, 60_000)
        )
        for i in range(draw.randint(2, 4))
    ]
    program = draw.randint(1000, 40_000)
    try:
        places = locate_together(demands, config, program)
    except DoesNotFit as error:
        needed = sum(rounded(size) for d in demands for _, size in d.constants) + max(d.arena for d in demands)
        assert any(str(error).startswith(d.network) for d in demands)
        assert needed + program > config.ram_bytes or "at once" in str(error)
        return
    assert len({place.arena_address for place in places}) == 1
    everyone = [(p.address, p.size) for place in places for p in place.constants]
    apart([(0, program), *everyone, (places[0].arena_address, max(d.arena for d in demands))], config.ram_bytes)
    for demand, place in zip(demands, places, strict=True):
        assert [(p.name, p.size) for p in place.constants] == demand.constants
        for low in (True, False):  # one struct in C++, each beginning where the one before it ends
            own = [p for p in place.constants if (p.address < config.contiguous_bytes) == low]
            assert all(b.address == a.address + rounded(a.size) for a, b in itertools.pairwise(own))


def test_estimate_of_each(app, tmp_path):
    result = heepgen("estimate", app[0], "--json", tmp_path / "estimate.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "estimate.json").read_text())
    assert not form_errors(document)
    ran = run_program(app[0], CONFIG)
    for predicted, measured in zip(document["networks"], ran.networks, strict=True):
        assert predicted["total_cycles"] == pytest.approx(measured.total_cycles, rel=0.2)


def test_an_application_goes_in_as_it_is(app, models, tmp_path):
    sample = tmp_path / "x.npy"
    np.save(sample, np.linspace(-1, 1, 23, dtype=np.float32)[None])
    flags = ("--rows", 4, "--cols", 4, "--ports", 1)
    made = heepgen("sw", models[1], "--name", "mine", "--sample", sample, *flags, "-o", tmp_path / "one")
    assert made.exit_code == 0, made.output
    made = heepgen("sw", models[0], tmp_path / "one", "-o", tmp_path / "both")
    assert made.exit_code == 0, made.output
    both = opened_folder(tmp_path / "both")
    assert [network.manifest["name"] for network in both.networks] == ["picture", "mine"]
    assert both.networks[1].reference["inputs"] == [np.load(sample)[0].tolist()]
    assert both.config == CONFIG  # the application's, where nothing is said
    again = said("sw", models[1], "-o", tmp_path / "both")
    assert "both is an application of several networks, whose main.cpp does not fit one" in again


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 23))

    def forward(self, x):
        self.total.copy_(self.total + x)
        return self.total * 2.0


def test_what_cannot_be_in_one_program_is_refused(app, models, tmp_path):
    picture, sound = models
    out = ("-o", tmp_path / "no")
    torch.export.save(torch.export.export(Counting(), (torch.zeros(1, 23),)), tmp_path / "counting.pt2")
    text = said("sw", picture, tmp_path / "counting.pt2", *out)
    assert text.startswith("counting keeps a state") and "an application by itself" in text
    assert "would both have the name picture in C++" in said("sw", picture, picture, *out)
    assert said("sw", picture, sound, "--sample", "x.npy", *out).startswith("--sample is about one network")
    assert said("sw", picture, sound, "--name", "x", *out).startswith("--name is about one network")
    assert said("sw", picture, sound, "--weights", "int4:last", *out).startswith("--weights is about one network")
    assert "holds several networks, picture and sound wave" in said("sw", picture, app[0], *out)
    assert "holds several networks, picture and sound wave" in said("why", app[0])
    assert "--input and --tap" in said("run", app[0], "--tap", "last")
    assert not (tmp_path / "no").exists()


def test_what_does_not_fit_names_the_network(models, tmp_path):
    torch.export.save(torch.export.export(nn.Linear(400, 80).eval(), (torch.zeros(1, 400),)), tmp_path / "large.pt2")
    config = Config(rows=4, cols=4, ports=1, memory_banks=2, memory_banks_interleaved=())
    generate_several(models, config, tmp_path / "fits")
    with pytest.raises(
        HeepgenError, match=r"^large, in one program with picture and sound wave, does not fit: .*banks"
    ):
        generate_several([*models, tmp_path / "large.pt2"], config, tmp_path / "no")
    assert not (tmp_path / "no").exists()
