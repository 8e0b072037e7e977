# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: geometries by name, documents from data, area from synthesis, roofline points."""

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples import bench
from firmware_gen import CodeGenerator
from firmware_gen.architectures.registry import load_config
from firmware_gen.frontend.loader import load_model
from gen.documents.measured import area, roofline
from gen.documents.measured.bench import (
    Measurement,
    Published,
    from_dict,
    geometry_name,
    markdown,
    measure,
    parse_geometry,
    read_documents,
    table,
    to_dict,
    updated,
    write_documents,
)
from gen.documents.measured.sides import Beside, Hardware, Side, measure_side
from gen.results.runs.run import LayerReport
from hls.config import Config
from hls.errors import HeepgenError
from sim.firmware import compile_firmware
from tests.applications import everything, generated
from tests.house import ROOT

LAYERS = (
    LayerReport("conv", "Conv2d", (1, 8, 4, 4), 6400, 200, bound_cycles=160, bus_words=320, array_cycles=100),
    LayerReport("pool", "MaxPool2d", (1, 8, 2, 2), 0, 50, bound_cycles=40, bus_words=80, array_cycles=16),
    LayerReport("softmax", "Softmax", (1, 8), 0, 30, cpu_cycles=30),
)
MEASURED = Measurement(
    "net",
    "8x8p2",
    Published(array=3000, cpu=2500, array_size="12x12"),
    ram_kib=512,
    cycles=300,
    bound=200,
    macs=6400,
    peak=64,
    ports=2,
    cpu_cycles=50,
    software=6000,
    withheld=360,
    bit_exact=True,
    layers=LAYERS,
)
SKIPPED = Measurement("other", "8x8p2", skipped="Its memory is too small.")


@pytest.mark.parametrize("name", ["8x8p2", "4x4p1", "1x32p4-fma"])
def test_geometry_names(name):
    assert geometry_name(parse_geometry(name)) == name


@pytest.mark.parametrize(
    "name, message", [("8by8", "as in 8x8p2"), ("8x8", "as in 8x8p2"), ("0x8p2", "rows"), ("8x8p9", "ports")]
)
def test_bad_geometries(name, message):
    with pytest.raises(HeepgenError, match=message):
        parse_geometry(name)


def test_measurements_survive_json():
    results = [MEASURED, SKIPPED]
    assert from_dict(json.loads(json.dumps(to_dict(results)))) == results


def test_document_holds_the_numbers():
    text = markdown([MEASURED, SKIPPED], [("heepgen --help", "0.1 s")])
    row = next(line for line in text.splitlines() if line.startswith("| net "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # RAM, cycles, bound, ratio, MAC/cycle, withheld, CPU, software, software/array, HEEPstor, HEEPstor/array, CPU
    assert cells[2:] == [
        "512",
        "300",
        "200",
        "1.50",
        "21.33",
        "1.20",
        "50",
        "6,000",
        "20",
        "3,000 12x12",
        "10",
        "2,500",
    ]
    assert "Its memory is too small." in text and "heepgen --help" in text
    assert "| conv | Conv2d |" in text


def test_table_mentions_skipped_networks():
    from rich.console import Console

    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table([MEASURED, SKIPPED]))
    assert "other on 8x8p2 was skipped: Its memory is too small." in console.export_text()


def test_roofline_points_lie_below_the_roof():
    points = roofline.points(MEASURED)
    assert [point.name for point in points] == ["conv", "pool"]
    assert [(p.intensity, p.speed) for p in points] == [(20.0, 32.0), (16 * 8 / 80, 16 * 8 / 50)]
    assert [p.share for p in points] == [layer.cycles / 300 for layer in LAYERS[:2]]
    assert all(p.speed <= min(MEASURED.peak, MEASURED.ports * p.intensity) for p in points)


def test_the_roofline_in_the_documents_is_of_the_measurements_there(tmp_path):
    results, *_ = read_documents(ROOT / "docs")
    roofline.plot(results, tmp_path)
    text = (tmp_path / "roofline.svg").read_text()
    assert text == (ROOT / "docs" / "roofline.svg").read_text(), "draw it again: make docs"
    for m in results:
        points = roofline.points(m)
        if not points:  # of a stream only the whole call is measured
            continue
        slowest = max(points, key=lambda point: point.share)
        assert text.count(f"<!-- {m.network}: {slowest.name}, {100 * slowest.share:.0f} % of {m.cycles:,} -->") == 1


def test_documents(tmp_path):
    write_documents([MEASURED, SKIPPED], [("tool", "1 s")], tmp_path)
    data = json.loads((tmp_path / "performance.json").read_text())
    assert from_dict(data) == [MEASURED, SKIPPED] and data["tools"] == [["tool", "1 s"]]
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(tmp_path / "roofline.svg")
    assert (tmp_path / "performance.md").read_text() == markdown([MEASURED, SKIPPED], [("tool", "1 s")])


def test_a_network_that_cannot_be_compiled_is_skipped_with_the_reason(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 2)), tmp_path / "net.pt")
    result = measure("net", tmp_path / "net.pt", tmp_path / "missing.npy", parse_geometry("8x8p2"), tmp_path)
    assert "missing.npy" in result.skipped and not result.cycles


def test_unknown_network():
    result = CliRunner().invoke(bench.main, ["--networks", "alexnet"])
    assert result.exit_code == 1 and "--networks alexnet: no such network" in str(result.exception.code)


def test_published_networks_exist():
    assert set(bench.PUBLISHED) | set(bench.MEMORY) <= set(bench.MEASURED)


def link(folder, network, config):
    """Compile the application of an example network, with and without accelerator."""
    model, sample = bench.prepare(bench.MEASURED[network], folder)
    CodeGenerator(load_model(model), np.load(sample), folder / "app", config).generate_code()
    application = generated(folder / "app")
    for mode in (application.manifest["accelerator"], application.manifest["software"]):
        compile_firmware(
            *everything(application), mode["defines"], config, folder / "app.elf", placements=mode["placements"]
        )


@pytest.mark.slow
@pytest.mark.parametrize("network", bench.MEMORY)
def test_networks_with_larger_banks_fit_them_and_need_them(tmp_path, network):
    config = Config(**bench.MEMORY[network])
    link(tmp_path, network, config)
    with pytest.raises(HeepgenError, match="does not fit"):
        link(tmp_path, network, replace(config, bank_kib=config.bank_kib // 2))


def test_area_document_holds_the_numbers():
    part = {
        "unit": "drain",
        "luts": 6543,
        "memory_luts": 12,
        "flip_flops": 3456,
        "carries": 78,
        "dsps": 9,
        "block_rams": 1.5,
        "buffer_bits": 4096,
    }
    speed = {"unit": "normaliser_rows8", "fmax": 123.4, "source": "a", "sink": "b"}
    text = area.markdown(
        {
            "geometry": "8x8p2",
            "areas": [part],
            "features": [part | {"unit": "more", "luts": -5, "kge": 1.26, "mhz": [90.6, 88.2]}],
            "arrays": [{"name": "8x8p2", "limit": 8000, **part}],
            "clocks": [speed],
            "fma": [],
            "whole": [speed | {"unit": "4x4p1"}],
            "before": {"normaliser": 61.2},
            "before_name": "v0",
        }
    )
    assert "| drain | 6,543 | 12 | 3,456 | 78 | 9 | 1.5 | 4,096 |" in text
    assert "| more | -5 | +12 |" in text and "| +1.3 | 91 to 88 |" in text and "| 8x8p2 | 6,543 | 8,000 |" in text
    assert "| normaliser | 61 | 123 | `a` to `b` |" in text and "| 4x4p1 |  | 123 |" in text and "v0" in text


SIDES = Beside(
    (
        Side("net", "one", "", 1000, 100, 40.0, 2048, 1024),
        Side("net", "two", "", 2500, 2500, None, 1024, 512),
        Side("other", "one", "too large"),
    ),
    (Hardware("one", "8x8", 5000, 900, 64, 1.5, 88.4),),
)


def test_architectures_side_by_side(tmp_path):
    write_documents([MEASURED], [], tmp_path, SIDES)
    assert Beside.from_dict(json.loads((tmp_path / "performance.json").read_text())) == SIDES
    text = (tmp_path / "performance.md").read_text()
    assert "| net | `one` | 1,000 | 1.0 | 10 | 40.0 | 2.0 | 1.0 |" in text
    assert "| net | `two` | 2,500 | 2.5 | 100 | - | 1.0 | 0.5 |" in text
    assert "other on `one`. too large" in text and "| `one` | 8x8 | 5,000 | 900 | 64 | 1.5 | 88 |" in text


def test_what_is_measured_again_takes_the_place_of_what_it_was(tmp_path):
    write_documents([MEASURED, SKIPPED], [("tool", "1 s")], tmp_path, SIDES)
    again, more = replace(MEASURED, cycles=290), replace(MEASURED, geometry="4x4p1")
    side = replace(SIDES.sides[0], cycles=900)
    results, tools, beside = updated(read_documents(tmp_path), [more, again], Beside((side,), ()))
    assert results == [again, SKIPPED, more] and tools == [("tool", "1 s")]
    assert beside == Beside((side, *SIDES.sides[1:]), SIDES.hardware)


@pytest.mark.parametrize("architecture", ["descriptor", "streaming", "cpu"])
def test_a_network_is_measured_on_every_architecture(architecture, tmp_path):
    model, x = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()), torch.randn(1, 1, 6, 6)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    np.save(tmp_path / "x.npy", x.numpy())
    side = measure_side("net", tmp_path / "net.pt2", tmp_path / "x.npy", load_config(None, architecture), tmp_path)
    assert not side.skipped and side.cycles > 100 and side.constant_bytes >= 36 and side.arena_bytes >= 4 * 36
    assert (side.cpu_cycles == side.cycles) == (architecture == "cpu")
