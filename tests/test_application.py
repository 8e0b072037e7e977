# SPDX-License-Identifier: Apache-2.0
"""The application folder: what heepgen generates again, and what is the user's."""

import re
import shutil

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.emit.folder import KIND
from gen.cli import main
from gen.flows.measure.run import run
from gen.flows.network.application import Application
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import fill, generated_folder
from tests.house import ROOT


def saved(path, seed):
    torch.manual_seed(seed)
    torch.export.save(torch.export.export(nn.Linear(5, 3).eval(), (torch.zeros(1, 5),)), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [saved(folder / f"net{seed}.pt2", seed) for seed in range(2)]


@pytest.fixture
def app(models, tmp_path):
    assert heepgen("sw", models[0], "-o", tmp_path / "app").exit_code == 0
    return tmp_path / "app"


def heepgen(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def own(folder):
    return {name: data for name, data in contents(folder).items() if not name.startswith("gen/")}


def test_only_what_was_generated_is_replaced(app, models):
    (app / "main.cpp").write_bytes(b"// mine\xff\r\n" + (app / "main.cpp").read_bytes())
    (app / "src").mkdir()
    (app / "src" / "filter.cpp").write_text("int filter() { return 1; }\n")
    (app / "data.bin").write_bytes(bytes(range(256)))
    before, generated = own(app), contents(app / "gen")
    done = heepgen("sw", models[1], "-o", app)
    assert done.exit_code == 0, done.output
    assert own(app) == before and len(before) >= 3
    after = contents(app / "gen")
    assert after.keys() == generated.keys() and after["weights.cpp"] != generated["weights.cpp"]
    assert Application.open(app).manifest["name"] == "net1"


WEIGHTS = {".heepgen.json", "manifest.json", "model.pt2", "reference.json", "sample.cpp", "weights.cpp"}


@pytest.mark.parametrize("architecture", ["descriptor", "streaming"])
def test_a_fine_tuned_model_changes_weights_and_what_is_expected_of_them_alone(tmp_path, architecture):
    torch.manual_seed(8)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(45, 3), nn.Sigmoid())
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    generated = []
    for file, tunes in (("net.pt2", False), ("net.pt2", False), ("tuned.pt2", True)):
        if tunes:
            net(torch.randn(4, 2, 5, 5)).square().sum().backward()
            optimiser.step()
        torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, 2, 5, 5),)), tmp_path / file)
        name = ("--name", "net", "--architecture", architecture)
        done = heepgen("sw", tmp_path / file, "-o", tmp_path / "app", *name)
        assert done.exit_code == 0, done.output
        generated.append(contents(tmp_path / "app" / "gen"))
    once, again, tuned = generated
    assert again == once
    assert tuned.keys() == once.keys() and {name for name in once if once[name] != tuned[name]} == WEIGHTS
    text = (ROOT / "docs" / "firmware.md").read_text().partition("## New weights\n")[2].partition("\n## ")[0]
    assert {name for name in re.findall("`([^` ]+)`", text) if name in once} == WEIGHTS


def test_what_the_user_removed_stays_removed(app, models):
    (app / "main.cpp").unlink()
    assert heepgen("sw", models[1], "-o", app).exit_code == 0
    assert not (app / "main.cpp").exists()


def test_a_model_that_is_refused_leaves_everything_as_it_was(app, tmp_path):
    torch.export.save(torch.export.export(nn.Identity(), (torch.zeros(1, 5),)), tmp_path / "identity.pt2")
    before = contents(app)
    assert heepgen("sw", tmp_path / "identity.pt2", "-o", app).exit_code == 1
    assert contents(app) == before and sorted(p.name for p in tmp_path.iterdir()) == ["app", "identity.pt2"]


def test_a_generated_file_that_was_edited_is_kept(app, models):
    (app / "gen" / "model.cpp").write_text("// mine\n")
    before = contents(app)
    done = heepgen("sw", models[1], "-o", app)
    assert done.exit_code == 1 and "gen holds model.cpp, which was changed after heepgen wrote it" in done.stderr
    assert contents(app) == before
    assert heepgen("sw", models[1], "-o", app, "--force").exit_code == 0
    assert (app / "gen.old" / "model.cpp").read_text() == "// mine\n" and own(app).keys() >= {"main.cpp"}


@pytest.mark.parametrize("name", ["main.cpp", "gen/mine.txt"])
def test_a_folder_that_is_no_application_is_refused(models, tmp_path, name):
    (tmp_path / "app" / name).parent.mkdir(parents=True)
    (tmp_path / "app" / name).write_text("mine")
    done = heepgen("sw", models[0], "-o", tmp_path / "app")
    assert done.exit_code == 1 and "was not written by heepgen" in done.stderr
    assert contents(tmp_path / "app") == {name: b"mine"}


def test_the_marker_alone_is_enough_to_generate_again(app, models):
    """As in a checkout where nothing else of gen/ was committed."""
    mark = app / "gen" / ".heepgen.json"
    data = mark.read_bytes()
    shutil.rmtree(app / "gen")
    mark.parent.mkdir()
    mark.write_bytes(data)
    with pytest.raises(HeepgenError, match="is incomplete; generate it again"):
        Application.open(app)
    assert heepgen("sw", models[0], "-o", app).exit_code == 0
    assert Application.open(app).manifest["name"] == "net0"


def test_applications_of_before_are_generated_again_unless_they_were_edited(models, tmp_path):
    def old():
        with generated_folder(tmp_path / "app", KIND) as folder:
            fill(folder, {"manifest.json": "{}", "main.cpp": "int main() {}"})

    old()
    done = heepgen("run", tmp_path / "app")
    assert done.exit_code == 1 and "generate it again with heepgen sw" in done.stderr
    assert heepgen("sw", models[0], "-o", tmp_path / "app").exit_code == 0
    assert not (tmp_path / "app" / "manifest.json").exists() and Application.open(tmp_path / "app")
    shutil.rmtree(tmp_path / "app")
    old()
    (tmp_path / "app" / "main.cpp").write_text("mine")
    done = heepgen("sw", models[0], "-o", tmp_path / "app")
    assert done.exit_code == 1 and "holds main.cpp, which was changed" in done.stderr


def test_sources_of_the_user_are_compiled_and_found_by_name(app):
    """Beside main.cpp and below src/; nothing else."""
    for name in ("b.c", "a.cpp", "src/deep/c.cc", "src/d.cxx", "other/no.cpp", "no.txt", ".no.cpp"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("")
    sources = [p.relative_to(app).as_posix() for p in Application.open(app).own_sources]
    assert sources == ["a.cpp", "b.c", "main.cpp", "src/d.cxx", "src/deep/c.cc"]


def test_an_edited_main_runs(app):
    text = (app / "main.cpp").read_text()
    (app / "main.cpp").write_text(text.replace("int main() {", 'int main() {\n  soc_puts("mine\\n");', 1))
    report = run(app, Config(), software=True)
    assert report.bit_exact and report.uart.startswith("mine\nHG ok")
