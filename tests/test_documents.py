# SPDX-License-Identifier: Apache-2.0
"""README, documents and `--help`: links lead somewhere, and every command works as it is typed."""

import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gen.cli import main
from gen.flows.accelerator import hw
from gen.flows.explore import explored_models
from gen.flows.measure import run, steps
from tests.house import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()

PARSED = {
    "heepgen xheep": "needs a checkout of X-HEEP; tests/test_xheep.py runs it on stubs of two",
    "heepgen check-architecture": "takes minutes; tests/test_check.py runs parts of it",
    "heepgen report": "needs a run; tests/test_report.py makes pages of runs",
    "heepgen eval model.pt2 --data test.npz --scheduler": "needs a scheduler; tests/test_cluster.py starts one",
    "heepgen explore model.pt2 --scheduler": "the same",
    "heepgen ppa --rows 4 --cols 4 --ports 1 --synthesise": "synthesises for minutes",
    "heepgen ppa --family": "the same",
    "heepgen ppa --liberty": "the same",
    "heepgen run .": "is typed in an application's folder, beside a program that its Makefile built",
    "heepgen run sw/applications/my-network": "an application of HEEPstor's; tests/test_heepstorch.py runs one",
    "heepgen run build/applications/my-network": "the same",
}
"""Commands of heepgen that are not run here: their options are parsed all the same."""
LONG = ("explore model.pt2 --rows", "explore model.pt2 --data", "explore a.pt2 b.pt2 --weights 3,1", "ppa --model")
"""Commands that take seconds each."""
OTHERS = ("source", "cd", "git", "pip", "gtkwave", "pytest", "fusesoc")
"""Programs that are not heepgen's."""


def commands(text):
    """Lines of indented and fenced blocks that begin with a program, without what explains them."""
    fenced = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```$", text, re.M | re.S)
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines = [line for block in fenced for line in block.splitlines()] + re.findall(r"^    (\S.*)$", plain, re.M)
    programs = rf"(?:\$ )?((?:heepgen|make|python3?|{'|'.join(OTHERS)})(?: .*)?)$"
    found = [re.match(programs, line) for line in lines]
    return [re.split(r"  +|\s+#", match[1])[0].strip() for match in found if match]


def helps(command=main, context=None):
    """Text of `--help` of a command and of those below it."""
    context = click.Context(command, info_name=command.name, parent=context)
    yield command.get_help(context)
    for below in getattr(command, "commands", {}).values():
        yield from helps(below, context)


SHOWN = {command: page.name for page in PAGES for command in commands(page.read_text())}
SHOWN |= {command: "--help" for text in helps() for command in commands(text) if command not in SHOWN}


def shown(program):
    return sorted(command for command in SHOWN if command.split()[0] == program)


def test_commands_are_found():
    text = "    heepgen hw -o x    # writes x\n\n```sh\n$ make run\n```\n\n    no command\n\n    heepgen sw m   words\n"
    assert commands(text) == ["make run", "heepgen hw -o x", "heepgen sw m"]
    assert len(shown("heepgen")) > 40 and len(shown("make")) > 10


class Step(torch.nn.Module):
    """(x, h) -> (y, h)"""

    def forward(self, x, h):
        h = torch.relu(x + h)
        return h * 2, h


@pytest.fixture
def folder(tmp_path):
    """A folder with all files that documents name, model.pt2 among them."""
    path = tmp_path
    layers = {"conv1": torch.nn.Conv2d(1, 3, 3), "flat": torch.nn.Flatten(), "last": torch.nn.Linear(108, 4)}
    model, x = torch.nn.Sequential().eval(), torch.randn(8, 1, 8, 8)
    for name, layer in layers.items():
        model.add_module(name, layer)
    exported = torch.export.export(model, (x[:1],))
    (path / "build" / "digits").mkdir(parents=True)
    for name in ("model.pt2", "a.pt2", "b.pt2", "wake.pt2", "faces.pt2", "build/digits/model.pt2"):
        torch.export.save(exported, path / name)
    window = torch.nn.Sequential(torch.nn.Conv1d(4, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    torch.export.save(torch.export.export(window.eval(), (torch.zeros(1, 4, 6),)), path / "wakeword.pt2")
    torch.export.save(torch.export.export(Step(), (torch.zeros(1, 4), torch.zeros(1, 4))), path / "step.pt2")
    torch.save(model, path / "model.pt")
    for name in ("x.npy", "image.npy", "sample.npy", "build/digits/sample.npy"):
        np.save(path / name, x[:1].numpy())
    np.save(path / "frames.npy", x.numpy())
    for name in ("test.npz", "train.npz", "calibration.npz"):
        np.savez(path / name, x=x.numpy(), y=np.zeros(8, int))
    (path / "main.elf").write_bytes(b"\x7fELF")
    return path


@pytest.fixture
def heepgen(folder, monkeypatch):
    """A function that runs a command up to Verilog and simulation, which other tests are about."""

    def verilog(config, where):
        (where / f"{config.root}.v").write_text(f"module {config.root} ();\nendmodule\n")

    def simulation(*_arguments, **_options):
        raise SystemExit(0)

    monkeypatch.chdir(folder)
    monkeypatch.setitem(hw.generate_hw.__kwdefaults__, "generate", verilog)
    for flow in (run, explored_models):
        monkeypatch.setattr(flow, "run_application", simulation)
    monkeypatch.setattr(steps, "_simulate", simulation)
    for arguments in ("new-architecture mine", "sw model.pt2 -o build/app"):
        assert CliRunner().invoke(main, arguments.split()).exit_code == 0
    shutil.copytree("build/app", "build/digits-app")
    return lambda arguments: CliRunner().invoke(main, arguments)


def form(command):
    """What tells a command from others of its kind: options, and kinds of files."""
    return tuple(
        re.sub(r"^[\w/.-]*?(\.\w+)?$", r"\1", word) if word[0] != "-" else word for word in command.split()[2:]
    )


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_heepgen_does_what_is_shown(long, heepgen, folder):
    """All are parsed; of those that differ in values and names of files alone, one runs."""
    failed, forms = [], set()
    for command in shown("heepgen"):
        name, *arguments = shlex.split(command)[1:]
        main.commands[name].make_parser(click.Context(main.commands[name])).parse_args(list(arguments))
        if any(command.startswith(known) for known in PARSED) or (name, form(command)) in forms:
            continue
        if command.startswith(tuple(f"heepgen {start}" for start in LONG)) != long:
            continue
        forms.add((name, form(command)))
        if "model.onnx" in command:
            export_onnx(folder / "model.onnx", arguments)
        if name == "new-architecture":
            shutil.rmtree(folder / arguments[0], ignore_errors=True)
        done = heepgen([name, *arguments])
        if done.exit_code:
            failed.append((SHOWN[command], command, done.output or repr(done.exception)))
    assert not failed


def export_onnx(path, arguments):
    """A classifier that takes the input shape in `arguments`, all of it left open, or that of test.npz."""
    from onnx import TensorProto, helper, save

    channels, size = 1, [8, 8]
    if "--input-shape" in arguments:
        channels, size = int(arguments[arguments.index("--input-shape") + 1].split(",")[0]), ["h", "w"]
    weights = torch.randn(4, channels, 1, 1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[16, 16]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    tensor = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.flatten().tolist())
    save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [tensor])), path)


def targets(makefile):
    return set(re.findall(r"^([a-z-]+):", makefile, re.M))


def test_make_has_every_target_and_variable_that_is_shown():
    """In the Makefile here, in that of an application, or in those of a project for X-HEEP."""
    projects = [path for path in (ROOT / "xheep_integration").rglob("*akefile*") if path.is_file()]
    application = ROOT / "firmware_gen" / "emit" / "templates" / "build" / "Makefile.j2"
    texts = [MAKEFILE, application.read_text(), "\n".join(path.read_text() for path in projects)]
    for command in shown("make"):
        _, *words = shlex.split(command)
        names = {word.split("=")[0] for word in words if "=" in word}
        wanted = {word for word in words if "=" not in word}
        fits = [targets(t) >= wanted and all(re.search(rf"\b{name}\b", t) for name in names) for t in texts]
        assert any(fits), f"{SHOWN[command]}: {command}"


def test_modules_that_are_shown_explain_themselves():
    modules = {command.split()[2] for command in shown("python") + shown("python3") if command.split()[1] == "-m"}
    modules |= set(re.findall(r"python -m ([\w.]+)", MAKEFILE)) - {"pip", "pytest", "venv"}
    specs = {name: find_spec(name) for name in modules}
    specs |= {name: find_spec(f"{name}.__main__") for name, spec in specs.items() if spec.submodule_search_locations}
    sources = {name: Path(spec.origin).read_text() for name, spec in specs.items()}
    assert "examples.train" in modules
    assert not [name for name, source in sources.items() if not re.search(r"^import (argparse|click)$", source, re.M)]


def anchors(page):
    """What the headings of a page are called in links, as the site calls them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = unicodedata.normalize("NFKD", re.sub(r"[`*]|\]\(.*?\)", "", heading)).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[^\w\s-]", "", plain).strip().lower().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_site_is_built_without_a_warning(tmp_path):
    """Every page in its navigation, every link and anchor of it, every docstring that it shows."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").glob("*.md")}
    built = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.glob("*.html")}
    assert pages | {Path("CONTRIBUTING"), Path("CHANGELOG")} <= built
    assert "compile" in (tmp_path / "api.html").read_text() and "--wait-states" in (tmp_path / "cli.html").read_text()
    html = "".join(path.read_text() for path in tmp_path.glob("*.html"))
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:[^"]+', html)
    written = "".join(page.read_text() for page in [*PAGES, ROOT / "CHANGELOG.md"])
    foreign = set(re.findall(r'(?:src|href|action)="(https?:[^"]+)', html))
    assert foreign and not [address for address in foreign if address.rstrip("/") not in written]
