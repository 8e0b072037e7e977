# SPDX-License-Identifier: Apache-2.0
"""`heepgen sw` and `heepgen run`: reports from synthetic records, bad inputs, and whole runs."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.models.metrics import compare
from gen.cli import main
from gen.flows.measure.measured import accelerated_layers, places_of, timed_layers
from gen.flows.measure.run import Application, run
from gen.flows.network.sw import generate_sw
from gen.results.runs.run import LayerReport, OutputReport, RunReport
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD
from hls.errors import HeepgenError


def layer(name, descriptors, on_cpu=False, macs=100, bound=10):
    return {
        "name": name,
        "op": "Op",
        "shape": [1, 4],
        "macs": macs,
        "descriptors": descriptors,
        "on_cpu": on_cpu,
        "bound_cycles": bound,
    }


def record(cycle, *counters):
    return dict(zip(PROFILE_RECORD, (cycle, *counters), strict=True))


# busy, array_active, load_stall, store_stall, bus_words, lanes_lost, lanes_lossy: cumulative
RECORDS = [
    record(1120, 100, 60, 7, 3, 80, 1, 2),
    record(1220, 200, 130, 8, 3, 200, 1, 9),
    record(1270, 250, 170, 9, 5, 210, 4, 9),
]


def test_a_layer_is_the_difference_of_its_records():
    layers = [layer("a", [0, 1]), layer("flatten", [], macs=0), layer("b", [2], bound=40)]
    first, flatten, second = accelerated_layers(layers, [1000, 1300, 0, 0, 0], RECORDS, {"a": {"sqnr_db": 50.0}})
    # the doorbell came at 1120 - 100 = 1020
    assert first == LayerReport(
        "a",
        "Op",
        (1, 4),
        100,
        cycles=200,
        bound_cycles=10,
        bus_words=200,
        array_cycles=130,
        load_stall_cycles=8,
        store_stall_cycles=3,
        lanes_lost=1,
        lanes_lossy=9,
        sqnr_db=50.0,
    )
    assert flatten.cycles == flatten.bound_cycles == 0
    assert second == LayerReport(
        "b",
        "Op",
        (1, 4),
        100,
        cycles=50,
        bound_cycles=40,
        bus_words=10,
        array_cycles=40,
        load_stall_cycles=1,
        store_stall_cycles=2,
        lanes_lost=3,
    )


def test_layers_that_take_turns_have_the_sum_of_their_pieces():
    a, b = accelerated_layers([layer("a", [0, 2]), layer("b", [1])], [1000, 1300, 0, 0], RECORDS, {})
    assert (a.cycles, a.array_cycles, a.bus_words) == (100 + 50, 60 + 40, 80 + 10)
    assert (b.cycles, b.array_cycles, b.bus_words) == (100, 70, 120)


def test_a_cpu_layer_before_the_doorbell_runs_from_the_beginning():
    layers = [layer("softmax", [], on_cpu=True), layer("a", [0])]
    softmax, a = accelerated_layers(layers, [1000, 1300, 1012, 0], RECORDS, {})
    assert (softmax.cycles, softmax.cpu_cycles, a.cycles) == (12, 12, 100)  # doorbell: 1120 - 100


def test_a_cpu_layer_runs_until_the_cpu_says_so():
    layers = [layer("a", [0, 1, 2]), layer("softmax", [], on_cpu=True)]
    _, softmax = accelerated_layers(layers, [1000, 1400, 0, 1390], RECORDS, {})
    assert (softmax.cycles, softmax.cpu_cycles, softmax.bound_cycles) == (120, 120, 0)


def test_counters_may_wrap():
    start = (1 << 32) - 30
    records = [record(20, 40, 0, 0, 0, (1 << 32) - 5, 0, 0), record(70, 90, 0, 0, 0, 5, 0, 0)]
    a, b = accelerated_layers([layer("a", [0]), layer("b", [1])], [start, 80, 0, 0], records, {})
    assert (a.cycles, b.cycles) == (40, 50)
    assert b.bus_words == 10


def test_software_layers_end_one_after_the_other():
    a, b = timed_layers([layer("a", [0]), layer("b", [1])], [(1 << 32) - 10, 999, 90, 150], {}, True)
    assert (a.cycles, a.cpu_cycles, b.cycles, b.bound_cycles) == (100, 100, 60, 0)


def test_the_cpu_alone_measures_its_layers_and_not_the_accelerators():
    layers = [layer("a", [], on_cpu=True), layer("b", [])]
    a, b = timed_layers(layers, [100, 400, 150, 390], {"b": {"sqnr_db": 9.0}}, False)
    assert (a.cycles, a.cpu_cycles, b.cycles, b.cpu_cycles, b.sqnr_db) == (50, 50, 240, 0, 9.0)
    assert timed_layers(layers, [100, 400, 150, 390], {"b": {"sqnr_db": 9.0}}, True)[1].sqnr_db is None


def made_by_hand():
    """Two layers on the array, one on the CPU, and cycles around them."""
    layers = (
        LayerReport("a", "Conv", (1, 4), 6000, 300, 200, 900, 180, 7, 11, max_abs_err=0.25, sqnr_db=41.0),
        LayerReport("b", "Softmax", (1, 4), 0, 100, cpu_cycles=100),
        LayerReport("c", "Linear", (2, 3), 2000, 500, 250, 30, 240, 5, 13),
    )
    output = OutputReport("c", (2, 3), [0.0, 2, 1, 5, 4, 3], [2.0, 0, 1, 5, 4, 3], True, 2.0, 30.0)
    return RunReport("net", "4x4", 16, 1000, (output,), layers, soc_cycles=1)


def test_a_report_counts_what_is_left_to_the_cpu_and_the_class_of_every_row():
    report = made_by_hand()
    assert (report.macs, report.cpu_cycles) == (8000, 1000 - 300 - 500)
    assert report.first.predictions == ([1, 0], [0, 0])
    assert replace(report.first, reference=None).predictions is None
    assert replace(report.first, shape=(6, 1)).predictions is None
    second = replace(report.first, layer="a", bit_exact=False)
    both = replace(report, results=(report.first, second))
    assert report.bit_exact and not both.bit_exact
    assert [row["layer"] for row in both.to_dict()["further_outputs"]] == ["a"]
    assert [both.to_dict()[name] for name in ("bit_exact", "output_layer")] == [False, "c"]


def test_columns_of_the_table_are_what_they_are_called():
    lines = [line.split() for line in str(made_by_hand()).splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0] in ("a", "b", "c", "total")}
    #  share of 1,000 cycles; MAC/cycle; of 16 at most; bound, ratio; stalls; CPU; errors
    a = ["Conv", "1x4", "6,000", "300", "30.0", "20.00", "125.0", "200", "1.50", "7", "11", "-", "2.50e-01", "41.0"]
    assert rows["a"] == a
    assert rows["b"][3:5] == ["100", "10.0"] and "100" in rows["b"][5:]
    assert rows["total"][1:9] == ["8,000", "1,000", "100.0", "8.00", "50.0", "450", "2.22", "12"]
    assert rows["total"][9:11] == ["24", "200"] and rows["total"][-1] == "30.0"


def test_comparison_with_pytorch():
    assert compare([1.0, -2.0], [1.0, -2.25])["max_abs_err"] == 0.25
    assert compare([np.nan, np.inf], [np.nan, np.inf])["max_abs_err"] == 0.0
    assert np.isnan(compare([1.0], [np.nan])["max_abs_err"])


# Whole runs of a small network, on the CPU alone


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)).eval()
    torch.save(network, folder / "net.pt")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 2, 4, 4),)), folder / "net.pt2")
    return folder / "net.pt2"


@pytest.fixture(scope="module")
def app(model):
    generate_sw(model, Config(), model.parent / "app")
    return model.parent / "app"


def test_report_of_a_software_run(app, model):
    report = run(app, Config(), software=True)
    assert report.bit_exact
    assert report.software
    planned = Application.open(app).manifest["layers"]
    assert [entry.name for entry in report.layers] == [entry["name"] for entry in planned]
    inside = sum(entry.cycles for entry in report.layers)
    assert 0 <= report.total_cycles - inside < 300  # the call itself and reading the counter
    sample = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 4, 4), np.float32))
    with torch.no_grad():
        exact = torch.export.load(model).module()(sample)
    assert report.first.reference == exact.reshape(-1).tolist()
    worst = float(np.abs(report.outputs[0] - exact.numpy()).max())
    assert report.first.max_abs_err == pytest.approx(worst)
    assert 0 < worst < 0.05  # INT8 weights: not equal, not far


def test_what_is_read_of_software_lies_in_its_arena(app):
    """The records of the accelerator's layers lie behind what software has, which may be the end of the RAM."""
    manifest = Application.open(app).manifest
    symbols = dict.fromkeys(manifest["symbols"].values(), 0x8000)
    places = [places_of(manifest, software, symbols, ()) for software in (False, True)]
    assert [set(one) for one in places] == [{"result", "timing", "output 0", *more} for more in (["profile"], [])]


def test_another_input_and_the_tensor_of_a_layer(app, tmp_path):
    x = np.random.default_rng(9).standard_normal((2, 4, 4), np.float32)
    np.save(tmp_path / "x.npy", x)
    report = run(app, Config(), software=True, input_path=tmp_path / "x.npy", taps=("0",))
    assert report.bit_exact
    assert (report.outputs[0] != run(app, Config(), software=True).outputs[0]).any()
    tapped = np.array(report.taps["0"]).reshape(3, 3, 3)
    weights = torch.export.load(app / "gen" / "model.pt2").state_dict
    with torch.no_grad():
        exact = torch.relu(nn.functional.conv2d(torch.from_numpy(x), weights["0.weight"], weights["0.bias"])).numpy()
    assert np.abs(tapped - exact).max() < 0.05


def test_wait_states_cost_cycles_and_change_no_bit(app):
    fast, slow = run(app, Config(), software=True), run(app, Config(), software=True, wait_states=2)
    assert slow.bit_exact
    assert slow.first.values == fast.first.values
    assert slow.total_cycles > 1.5 * fast.total_cycles


def test_one_wrong_bit_is_exit_status_1(app, tmp_path):
    wrong = tmp_path / "app"
    shutil.copytree(app, wrong)
    manifest = json.loads((wrong / "gen" / "manifest.json").read_text())
    manifest["software"]["expected_bits"][2] ^= 1
    (wrong / "gen" / "manifest.json").write_text(json.dumps(manifest))
    result = CliRunner().invoke(main, ["run", str(wrong), "--software", "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 1
    assert "differs from the bit-exact model" in result.stderr
    assert json.loads((tmp_path / "out.json").read_text())["bit_exact"] is False


def test_a_model_runs_in_one_step(model):
    result = CliRunner().invoke(main, ["run", str(model), "--software", "--append-final-softmax", "--json", "-"])
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["output_shape"] == [1, 4]
    assert sum(data["outputs"]) == pytest.approx(1.0, abs=1e-6)


# Bad input


def refused(*args):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("heepgen: error: ")
    return result.stderr


def test_a_pt_has_the_shape_of_its_layers_and_a_pt2_knows_its_own(model, tmp_path):
    generate_sw(model.with_suffix(".pt"), Config(), tmp_path / "a")
    generate_sw(model, Config(), tmp_path / "b", input_shape=(2, 4, 4))
    assert "[1, 2, 4, 4]" in refused("sw", model, "--input-shape", "3,4,4", "-o", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_inputs_of_the_wrong_shape_name_both(model, app, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4)))
    for command in (
        ("sw", model, "--sample"),
        ("run", app, "--software", "--input"),
        ("run", model, "--software", "--input"),
    ):
        message = refused(*command, tmp_path / "x.npy")
        assert "[1, 3, 4, 4]" in message
        assert "[1, 2, 4, 4]" in message


def test_a_model_with_an_unsupported_layer_leaves_no_folder(tmp_path):
    network = nn.Sequential(nn.ReLU(), nn.Conv3d(1, 1, 2)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 3, 3, 3),)), tmp_path / "solid.pt2")
    message = refused("sw", tmp_path / "solid.pt2", "-o", tmp_path / "out")
    assert "conv3d" in message.lower()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["solid.pt2"]


def test_a_model_that_is_too_big_says_by_how_much(tmp_path):
    network = nn.Sequential(nn.Linear(512, 512))
    torch.export.save(torch.export.export(network, (torch.zeros(1, 512),)), tmp_path / "big.pt2")
    (tmp_path / "small.hjson").write_text("{memory: {banks: 2, banks_interleaved: []}}")
    message = refused("sw", tmp_path / "big.pt2", "--config", tmp_path / "small.hjson", "-o", tmp_path / "out")
    assert "does not fit" in message
    assert "65,536" in message
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_applications(app, tmp_path):
    assert "not an application" in refused("run", tmp_path)
    assert "does not exist" in refused("run", tmp_path / "absent")
    broken = tmp_path / "app"
    shutil.copytree(app, broken)
    text = (broken / "gen" / "manifest.json").read_text()
    (broken / "gen" / "manifest.json").write_text(text[: len(text) // 2])
    assert "incomplete" in refused("run", broken)


def test_an_unknown_tap_names_the_layers(app):
    with pytest.raises(HeepgenError, match="no such layer; there are 0, "):
        run(app, Config(), software=True, taps=("conv",))


@pytest.mark.parametrize(
    "name, change",
    [
        ("manifest.json", lambda m: m.pop("symbols")),
        ("manifest.json", lambda m: m["config"].update(rows=1.5)),
        ("manifest.json", lambda m: m["config"].update(rows=4)),
        ("manifest.json", lambda m: m["sources"].append("../../main.cpp")),
        ("manifest.json", lambda m: m["software"]["expected_bits"].pop()),
        ("manifest.json", lambda m: m["software"].update(arena=2**30)),
        ("manifest.json", lambda m: m["inputs"][0].update(shape=[10**30])),
        ("manifest.json", lambda m: m["layers"].append(m["layers"][0])),
        ("reference.json", lambda r: r["outputs"].append([])),
        ("reference.json", lambda r: r["layers"].update(x=[1])),
    ],
)
def test_a_damaged_folder_is_said_before_anything_is_built(app, tmp_path, name, change):
    shutil.copytree(app, tmp_path / "app")
    path = tmp_path / "app" / "gen" / name
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    message = refused("run", tmp_path / "app")
    assert "is damaged" in message and "heepgen sw" in message or "systolic_array.rows" in message
    path.write_text("[" * 50_000)
    assert "is incomplete" in refused("run", tmp_path / "app")


def test_only_outputs_lie_in_the_arena_of_the_kernels(app, tmp_path):
    """The layers' places are in the accelerator's arena: that of the kernels may lie where these would not fit."""
    shutil.copytree(app, tmp_path / "app")
    path = tmp_path / "app" / "gen" / "manifest.json"
    tree = json.loads(path.read_text())
    plain, sizes = tree["software"], [4 * math.prod(output["shape"]) for output in tree["outputs"]]
    assert sizes[0] < max(layer["output"]["offset"] + 4 * layer["output"]["words"] for layer in tree["layers"])
    plain |= {"outputs": [0], "arena": Config().ram_bytes - sizes[0]}
    path.write_text(json.dumps(tree))
    assert Application.open(tmp_path / "app").manifest["software"] == plain
    plain["arena"] += 4
    path.write_text(json.dumps(tree))
    assert "no valid arena" in refused("run", tmp_path / "app")
