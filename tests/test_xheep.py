# SPDX-License-Identifier: Apache-2.0
"""`heepgen xheep` without X-HEEP: what it writes, keeps and refuses."""

import shutil
from dataclasses import replace

import pytest

from gen.documents.measured.xheep import XheepRun, document, keep, read_runs
from gen.flows.soc.xheep import generate_xheep, regenerate
from hls.config import Config
from hls.errors import HeepgenError
from tests import xheep_project as shared
from tests.xheep_checkouts import checkout
from xheep_integration.generation import AUGUST_2026, GENERATIONS, NOVEMBER_2025, detect
from xheep_integration.project import bandwidth_notes

CONFIG = shared.CONFIG
heep = shared.heep
app = shared.app
refused = shared.refused


def test_generating_again_keeps_what_the_user_added(heep, app, tmp_path):
    out = tmp_path / "project"
    generate_xheep(heep, out, CONFIG, apps=[app])
    mine = out / "sw" / "applications" / "mine" / "main.cpp"
    mine.parent.mkdir()
    mine.write_text("int main() {}\n")
    (out / "heepstor.json").write_text((out / "heepstor.json").read_text().replace('"fast"', '"plic"'))
    makefile = (out / "Makefile").read_text()
    (out / "Makefile").write_text("mine")
    with pytest.raises(HeepgenError, match="holds Makefile, which was changed"):
        regenerate(out)
    assert '"plic"' in (out / "heepstor.json").read_text()
    assert "plic_interrupts[0] = irq" not in (out / "hw" / "heepstor_soc.sv").read_text()
    (out / "Makefile").write_text(makefile)
    with pytest.raises(HeepgenError, match="holds heepstor.json, which was changed"):
        generate_xheep(heep, out, CONFIG, apps=[app])
    report = regenerate(out)
    assert mine.is_file()
    assert "plic_interrupts[0] = irq" in (out / "hw" / "heepstor_soc.sv").read_text()
    assert report.apps == ("small_net",)


def test_two_applications_of_one_name_are_refused(heep, app, tmp_path):
    shutil.copytree(app, tmp_path / "again")
    with pytest.raises(HeepgenError, match=f"{app} and {tmp_path / 'again'} would both be sw/applications/small_net"):
        generate_xheep(heep, tmp_path / "p", CONFIG, apps=[app, tmp_path / "again"])
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["a b", "it's", "caf\u00e9", "a$b", "a#b", "a:b"])
@pytest.mark.parametrize("which", ["heep", "out", "app"])
def test_paths_that_make_cannot_have_are_refused(heep, app, tmp_path, which, name):
    paths = {"heep": heep, "out": tmp_path / "p", "app": app}
    paths[which] = tmp_path / name
    if which != "out":
        shutil.copytree(heep if which == "heep" else app, tmp_path / name, symlinks=True)
    with pytest.raises(HeepgenError, match="Makefiles cannot have"):
        generate_xheep(paths["heep"], paths["out"], CONFIG, apps=[paths["app"]])
    assert not paths["out"].exists()


def test_without_geometry_the_hardware_is_the_applications(heep, app, tmp_path):
    generate_xheep(heep, tmp_path / "p", Config(), apps=[app], hardware_given=False)
    assert f"0x{CONFIG.hash:08x}" in (tmp_path / "p" / "hw" / "accelerator" / "report.md").read_text()


def test_refusals_name_the_reason_and_write_nothing(heep, app, tmp_path):
    refused(tmp_path, "holds no X-HEEP", tmp_path / "nowhere")
    refused(tmp_path, "is not an application", heep, apps=[tmp_path])
    refused(tmp_path, "was generated for 4x4 aligned, 2 ports", heep, config=Config(rows=2), apps=[app])
    refused(
        tmp_path,
        "20 banks, X-HEEP's generator makes 16 at most",
        heep,
        config=Config(memory_banks=8, memory_banks_interleaved=(8, 4)),
    )


def test_the_generation_of_a_checkout_is_detected(tmp_path):
    for i, generation in enumerate(GENERATIONS):
        assert detect(checkout(tmp_path / str(i), generation)) is generation
    assert len({g.name for g in GENERATIONS}) == len(GENERATIONS)


@pytest.mark.parametrize(
    "file, old, new, match",
    [
        (
            "hw/system/x_heep_system.sv.tpl",
            "intr_ext_peripheral_i",
            "other",
            "no port intr_ext_peripheral_i; use X-HEEP main of November 2025",
        ),
        ("hw/system/x_heep_system.sv.tpl", "COREV_PULP", "other", "no xheep_obi_pkg::xheep_obi_req_t in hw/system"),
        ("util/x_heep_gen/xheep.py", "", None, "no xheep_obi_pkg"),
        ("Makefile", "X_HEEP_CFG", "OTHER", "no xheep_obi_pkg"),
        ("hw/system/x_heep_system.sv.tpl", "", None, "no port intr_ext_peripheral_i"),
        ("core-v-mini-mcu.core", "", None, "holds no X-HEEP"),
    ],
)
def test_xheep_of_another_time_is_refused_in_one_sentence(tmp_path, file, old, new, match):
    path = checkout(tmp_path / "other", NOVEMBER_2025) / file
    path.unlink() if new is None else path.write_text(path.read_text().replace(old, new))
    refused(tmp_path, match, tmp_path / "other")


def test_a_newer_xheep_of_another_time_is_refused(tmp_path):
    other = checkout(tmp_path / "other", AUGUST_2026)
    (other / "util" / "xheep_gen").rename(other / "util" / "generator")
    refused(tmp_path, "there is no util/xheep_gen/xheep.py", other)


def test_files_of_somebody_else_stay(heep, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(HeepgenError, match="was not written by heepgen xheep"):
        generate_xheep(heep, out, CONFIG)
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_notes_name_memory_that_cannot_feed_the_ports():
    assert bandwidth_notes(Config(ports=2), "NtoM") == []
    assert "no interleaved banks" in bandwidth_notes(Config(memory_banks_interleaved=()), "NtoM")[0]
    assert "onetoM" in bandwidth_notes(Config(ports=2), "onetoM")[0]
    assert "at least 8" in bandwidth_notes(Config(ports=4), "NtoM")[0]


def test_measured_rows_take_the_place_of_former_ones(tmp_path):
    first = XheepRun("one", "4x4-1", "digits", "", 9, "2026-01-01", 1010, 1000, 1020)
    layers = (("0", 300, 300), ("soft", 1010, 1008))
    printed = replace(first, variables="PRINT_LAYER_CYCLES", run_cycles=None, layers=layers)
    for row in (first, printed, replace(first, checkout="other"), replace(first, version=10, cycles=2020)):
        keep(tmp_path, row)
    runs = read_runs(tmp_path)
    assert len(runs) == 3 and printed in runs and first not in runs
    text = document(runs)
    assert "| digits | 4x4-1 | 2,020 | 1,000 | +102.00% | 1,020 | 10, 2026-01-01 |" in text
    assert text.index("## one") < text.index("| digits, 4x4-1 | 0 | 300 | 300 |") < text.index("## other")
    assert "| soft | 1,010 | 1,008 |" in text
