# SPDX-License-Identifier: Apache-2.0
"""The page of a run or an application: well formed, complete, from nowhere else, and safe against hostile names."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import heepgen
from gen.cli import main
from gen.datasheet.subject import Network
from gen.flows.measure.report import cost_of, write_report
from gen.flows.measure.run import run
from gen.flows.network.sw import generate_sw
from gen.pages import figures
from gen.pages.figures import flame
from gen.pages.page import render
from gen.pages.subject import of_run, time_by_cause
from gen.ppa.composition import cost
from gen.ppa.energy.model import off_by, prices_of
from gen.records.result import to_json
from hls.config import Config
from tests.html_page import Page

CONFIG = Config(rows=4, cols=4, ports=2)
DOCUMENT = Path(__file__).parent.parent / "docs" / "reports.md"
SECTIONS = {"time", "layers", "timeline", "roofline", "graph", "memory", "accuracy", "cost", "setup"}


class Net(nn.Module):
    """A layer on the CPU, a residual, a view."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 5, 1), nn.Linear(80, 3)

    def forward(self, x):
        x = torch.softmax(self.first(x), 1)
        return self.last(torch.max_pool2d(self.second(x) + x, 2).flatten(1))


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(2)
    torch.export.save(torch.export.export(Net().eval(), (torch.randn(1, 2, 8, 8),)), folder / "net.pt2")
    generate_sw(folder / "net.pt2", CONFIG, folder / "app")
    return folder / "app"


@pytest.fixture(scope="module")
def result(app, tmp_path_factory):
    """What --json writes of a run with a trace."""
    report = run(app, CONFIG, trace=tmp_path_factory.mktemp("report") / "trace.json")
    return json.loads(to_json(report))


def checked(text):
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base", "form"}
        assert not attributes.keys() & {"src", "href", "srcset", "action", "xlink:href"}
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", text)
    return page


def rows_of(text, table):
    """Cells of the body of a table."""
    body = re.search(rf'<table[^>]*id="{table}".*?<tbody>(.*?)</tbody>', text, re.S)[1]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]


def test_run_has_every_section_and_layer(result):
    text = render(of_run(result), ["area", "energy"])
    page = checked(text)
    assert set(page.ids) >= SECTIONS | {"tiles", "bars", "engines", "flames", "roof", "nodes", "arena", "scratchpad"}
    rows = rows_of(text, "table")
    assert [row[0] for row in rows] == [layer["name"] for layer in result["layers"]]
    heads = re.findall(r"<button type=\"button\">(.*?)</button>", text)
    cycles = heads.index("cycles")
    assert [row[cycles] for row in rows] == [f"{n:,}" if (n := layer["cycles"]) else "-" for layer in result["layers"]]
    assert {row[heads.index("on")] for row in rows} == {"array", "CPU", "memory"}
    words = "".join(page.text)
    assert f"{result['total_cycles']:,}" in words and "bit exact" in words and "0x" in words
    assert "energy" in words


def test_boxes_of_the_flame_graph_are_as_wide_as_their_cycles(result):
    picture = flame(result["timeline"], "net", 1000)
    whole, rows = picture.boxes[0], {}
    for box in picture.boxes:
        rows.setdefault(box.y, []).append(box)
    cycles = {layer["name"]: layer["cycles"] for layer in result["layers"] if layer["cycles"]}
    net, layers, states = (rows[y] for y in sorted(rows))
    assert net == [whole] and [box.label for box in layers] == list(cycles)
    for box in layers:
        assert box.width + 1 == pytest.approx(1000 * cycles[box.label] / sum(cycles.values()))
        inside = [own for own in states if box.x - 1e-6 <= own.x < box.x + box.width]
        assert all(own.title.startswith(f"{box.label}: ") for own in inside)
    assert len(states) == len(result["timeline"]["stacks"])


def test_time_adds_up_to_the_total(result):
    parts = time_by_cause(of_run(result))
    assert sum(value for _, value in parts) == result["total_cycles"]
    assert all(value >= 0 for _, value in parts)
    named = dict(parts)
    assert named["array at work"] == sum(layer["array_cycles"] for layer in result["layers"])
    assert named["load stall"] == sum(layer["load_stall_cycles"] for layer in result["layers"])


def test_application_is_called_predicted(app, tmp_path):
    said = CliRunner().invoke(main, ["report", str(app), "-o", str(tmp_path / "page.html")])
    assert said.exit_code == 0 and "predicted" in said.output
    text = (tmp_path / "page.html").read_text()
    page = checked(text)
    words = "".join(page.text)
    assert "not run" in words and "bit exact" not in words and "Measured" not in words
    manifest = json.loads(next(app.rglob("manifest.json")).read_text())
    assert [row[0] for row in rows_of(text, "table")] == [layer["name"] for layer in manifest["layers"]]
    predicted = heepgen.load(app).estimate()
    assert f"{predicted.total_cycles:,}" in words
    assert [layer["estimated_cycles"] for layer in manifest["layers"]] == [e.cycles for e in predicted.layers]


def test_estimates_beside_a_run_are_those_of_the_cycle_model(app, result):
    predicted = {e.name: e.cycles for e in heepgen.load(app).estimate().layers}
    assert {row.name: row.estimate or 0 for row in of_run(result).rows} == predicted


def test_energy_is_that_of_explore(app, result, tmp_path):
    compiled = heepgen.load(app).compiled
    work = Network.of(compiled.generator.target, compiled.program).work
    uj = prices_of(CONFIG).uj(work)
    area, energy = cost_of(write_report(app, tmp_path / "page.html"))
    assert f"about {uj:.3g} uJ" in energy and off_by() in energy
    assert f"{cost(CONFIG).lut:,} LUT" in area
    _, measured = cost_of(of_run(result))
    assert float(re.search(r"about (\S+) uJ", measured)[1]) == pytest.approx(uj, rel=0.05)


def test_energy_of_what_says_too_little_is_not_known(result):
    layers = [{k: v for k, v in layer.items() if k != "busy"} for layer in result["design"]["layers"]]
    for design in (result["design"] | {"layers": layers}, None):
        assert "not known" in cost_of(of_run(result | {"design": design}))[1]


def test_cost_of_other_architectures(tmp_path):
    for architecture in ("streaming", "cpu"):
        net = heepgen.compile(nn.Linear(6, 3), torch.randn(1, 6), architecture=architecture)
        net.write(tmp_path / architecture)
        page = write_report(tmp_path / architecture, tmp_path / "page.html")
        assert page.total == net.estimate().total_cycles
        area, *energy = cost_of(page)
        assert ("no accelerator" in area) == (not energy) == (architecture == "cpu")
        assert all("not known" in line for line in energy)


def test_run_file_of_the_command(result, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(result))
    write_report(tmp_path / "run.json", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == render(of_run(result), cost_of(of_run(result)))


def test_software_and_other_things_that_a_run_may_lack(result):
    lacking = result | {"design": None, "timeline": None, "import_check": None, "sqnr_db": None}
    page = checked(render(of_run(lacking), ["x"]))
    assert not set(page.ids) & {"engines", "nodes", "arena", "roof"}
    software = result | {"software": True, "peak": 0, "timeline": None}
    layers = [layer | {"cpu_cycles": layer["cycles"], "array_cycles": 0} for layer in result["layers"]]
    page = checked(render(of_run(software | {"layers": layers}), ["x"]))
    assert "roof" not in page.ids and "CPU only" in "".join(page.text)


def test_commands_of_the_document(app, tmp_path, monkeypatch):
    shutil.copytree(app, tmp_path / "build" / "app")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    heepgen (.*)$", DOCUMENT.read_text(), re.M)
    assert len(commands) >= 4
    for command in commands:
        said = CliRunner().invoke(main, command.split())
        assert said.exit_code == 0, said.output
    assert {path.name for path in tmp_path.iterdir()} == {"build", "run.json", "trace.json", "report.html"}


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></script><b>",
    "{{ 7 * 7 }}{% raw %}",
    "a\x00b\n\x1b[31m\u202e",
    "&amp;&#x27;'`",
    "x" * 3000,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(result, name):
    text = json.dumps(result)
    for old in {layer["name"] for layer in result["layers"]} | {result["network"]}:
        text = text.replace(json.dumps(old), json.dumps(name + old))
    page = checked(render(of_run(json.loads(text)), ["x"]))
    assert not any(ord(c) < 32 and c != "\n" for c in "".join(page.text))
    shown = name.encode("unicode_escape").decode().replace("\\n", "\\n") if "\x00" in name else name
    assert shown[:40] in "".join(page.text)


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "no JSON"),
        ("[]", "does not say what it is"),
        ('{"schema": "heepgen.sw/1"}', "heepgen.sw/1"),
        ('{"schema": "heepgen.run/1", "network": 3}', "not what heepgen run --json writes"),
        (None, "does not exist"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    said = CliRunner().invoke(main, ["report", str(path), "-o", str(tmp_path / "page.html")])
    assert said.exit_code == 1 and words in said.output and len(said.output.splitlines()) == 1
    assert not (tmp_path / "page.html").exists()


def test_edges_that_meet_have_lanes_of_their_own():
    edges = [(0, 3), (1, 4), (2, 6), (4, 6), (3, 5), (0, 9)]
    lanes = figures.lanes_of(edges)
    for a in edges:
        for b in edges:
            if a != b and a[0] < b[1] and b[0] < a[1]:
                assert lanes[a] != lanes[b]


# In a browser

CLICK = """<script>
const names = () => [...document.querySelectorAll("#table tbody tr")].map(row => row.cells[0].textContent);
const heads = [...document.querySelectorAll("#table th button")], seen = [names()];
const cycles = heads.find(head => head.textContent === "cycles");
for (let i = 0; i < 3; ++i) { cycles.click(); seen.push(names()); }
const wide = document.documentElement.scrollWidth <= innerWidth;
const boxes = document.querySelectorAll("svg rect").length;
const said = {id: "said", textContent: JSON.stringify({seen, wide, boxes})};
document.body.append(Object.assign(document.createElement("pre"), said));
</script>"""


def browse(page, width):
    """(what CLICK says, console lines) of the page in Chromium."""
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        + [f"--window-size={width},900", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)
    return json.loads(said[1]), re.findall(r".*CONSOLE.*", done.stderr)


@pytest.mark.external("chromium")
@pytest.mark.parametrize("width", [1100, 500])
def test_page_in_chromium(result, tmp_path, width):
    page = tmp_path / "page.html"
    page.write_text(render(of_run(result), ["x"]).replace("</body>", CLICK + "</body>"))
    said, console = browse(page, width)
    assert console == []
    given, down, up, again = said["seen"]
    cycles = {layer["name"]: layer["cycles"] for layer in result["layers"]}
    assert given == again == list(cycles)
    moving = [name for name in down if cycles[name]]
    assert moving == sorted(moving, key=lambda name: -cycles[name]) and moving != [n for n in given if cycles[n]]
    assert [name for name in up if cycles[name]] == moving[::-1]
    assert said["wide"] and said["boxes"] > 50
