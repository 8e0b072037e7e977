# SPDX-License-Identifier: Apache-2.0
"""Architectures by name and by path: what is found, what is refused, and what loading leaves behind."""

import subprocess
import sys

import pytest

from firmware_gen.architectures import registry
from firmware_gen.architectures.contract import Gemm
from firmware_gen.architectures.registry import BUILT_IN, find, load_architecture, load_config, names
from hls.config import Config, System, own_options
from hls.errors import HeepgenError

DOT = """\
from dataclasses import dataclass
from typing import ClassVar
import helper
from firmware_gen.architectures.contract import Architecture, Gemm, Limits, Verilog
from hls.config import System, integer, option

@dataclass(frozen=True)
class Dot(System):
    architecture: ClassVar[str] = "dot"
    lanes: int = option(4, *integer(1, 16), "products at once", in_hash=True)
    rows: int = option(helper.ROWS, *integer(1, 64), "of the tile", in_hash=True)
    dot_label: str = option("x", "a text", lambda v: isinstance(v, str), "says nothing")

ARCHITECTURE = Architecture(
    summary="integer dot product",
    config=Dot,
    software=Gemm(lambda config, a, b: a @ b, "driver.hpp", lambda config: Limits(64, 4)),
    hardware=Verilog(("dot.v",), "dot", lambda config: {"LANES": config.lanes}),
)
"""


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def write(tmp_path):
    def write(text=DOT, folder="dot", **helper):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / "architecture.py").write_text(text)
        (path / "helper.py").write_text(f"ROWS = {helper.get('rows', 3)}")
        (path / "driver.hpp").write_text("")
        (path / "dot.v").write_text("")
        return path

    return write


def refused(which, *parts):
    with pytest.raises(HeepgenError) as caught:
        load_architecture(which)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_the_built_in_ones_are_found_without_loading_anything_heavy():
    code = (
        "import sys; from firmware_gen.architectures.registry import entries;"
        "print([e.name for e in entries()], sorted({'torch', 'numpy', 'myhdl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{list(BUILT_IN)} []"
    assert all(find(name).name == name for name in BUILT_IN)


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_or_its_file_is_loaded_and_known_from_then_on(write, whole):
    folder = write()
    search = list(sys.path)
    dot = load_architecture(folder if whole else str(folder / "architecture.py"))
    assert (dot.name, dot.level, find("dot")) == ("dot", "gemm", dot)
    assert isinstance(dot.software, Gemm) and dot.software.driver == folder / "driver.hpp"
    assert dot.hardware.files == (folder / "dot.v",)
    assert "dot" in names() and sys.path == search and "helper" not in sys.modules


def test_two_folders_have_modules_of_one_name(write):
    one, two = write(), write(DOT.replace('"dot"\n', '"two"\n').replace("dot_label", "two_label"), "two", rows=7)
    assert load_architecture(one).config().rows == 3
    assert load_architecture(two).config().rows == 7


def test_options_have_a_section_of_the_architectures_name(write, tmp_path):
    folder = write()
    file = tmp_path / "cfg.hjson"
    file.write_text('{dot: {lanes: 8, label: "y"}, ports: 4, memory: {banks: 6}}')
    config = load_config(file, folder, rows=5)
    assert [o.key for o in own_options(type(config))] == ["dot.lanes", "dot.rows", "dot.label"]
    assert (config.lanes, config.rows, config.dot_label, config.memory_banks) == (8, 5, "y", 6)
    assert load_config(file) == Config(ports=4, memory_banks=6)
    file.write_text("architecture: dot\ndot: {lanes: 8}")
    assert load_config(file).lanes == 8
    assert load_config(file, "descriptor") == Config()


@pytest.mark.parametrize(
    "text, overrides, parts",
    [
        ("{dot: {lanes: 17}}", {}, ["dot.lanes = 17", "1 to 16"]),
        ("{dot: {lane: 1}}", {}, ["unknown option dot.lane; did you mean dot.lanes?"]),
        ("{dot: 3}", {}, ["dot = 3", "section"]),
        ("{ports: 9}", {}, ["ports = 9", "1 to 4"]),
        ("", {"cols": 4}, ["--cols", "dot has no option cols", "dot.lanes"]),
        ("", {"arithmetic": "fma"}, ["--arith", "dot has no option arithmetic"]),
        ("", {"lane": 4}, ["configuration override lane; did you mean lanes?"]),
    ],
)
def test_what_an_architecture_does_not_take_is_refused(write, tmp_path, text, overrides, parts):
    file = tmp_path / "cfg.hjson"
    file.write_text(text)
    folder = write()
    for which in (folder, "dot"):
        with pytest.raises(HeepgenError) as caught:
            load_config(file, which, **overrides)
        assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    "value, parts",
    [
        ("./dot", ["a path runs Python", "--architecture PATH"]),
        ("/tmp/dot", ["a path runs Python"]),
        ("dot.py", ["a path runs Python"]),
        ("descripter", ["unknown architecture descripter; did you mean descriptor?"]),
        ("7", ["architecture = 7", "name"]),
        ('["cpu"]', ["architecture = ", "name"]),
        ("{}", ["architecture = ", "name"]),
    ],
)
def test_a_file_selects_by_name_alone(write, tmp_path, monkeypatch, value, parts):
    write("raise RuntimeError('was run')")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "cfg.hjson"
    file.write_text(f"architecture: {value}\n")
    for which in (None, "cpu"):
        with pytest.raises(HeepgenError) as caught:
            load_config(file, which)
        assert all(part in str(caught.value) for part in [str(file), *parts]), str(caught.value)


def test_every_attribute_in_the_hash_changes_it_and_so_does_the_name(write):
    dot = load_architecture(write()).config
    assert len({dot().hash, dot(lanes=5).hash, dot(rows=4).hash, Config().hash, find("cpu").config().hash}) == 5
    assert dot().hash == dot(dot_label="z", memory_banks=8, prefix="a_").hash


@pytest.mark.parametrize(
    "old, new, parts",
    [
        ('"dot"\n', '"cpu"\n', ["own architectures is called cpu"]),
        ('"dot"\n', '"Dot"\n', ["'Dot'", "small letters"]),
        ('"dot"\n', '"a_name_of_17_chars"\n', ["16 small letters"]),
        ('"dot"\n', '"memory"\n', ["called memory"]),
        ('"dot"\n', '"architecture"\n', ["called architecture"]),
        ("ARCHITECTURE =", "ARCH =", ["has no ARCHITECTURE"]),
        ("ARCHITECTURE =", "ARCHITECTURE = 3 #", ["line "]),
        ("import helper", "import helper, absent_module", ["line 3", "ModuleNotFoundError", "absent_module"]),
        ("import helper", "import helper; raise SystemExit(3)", ["line 3", "SystemExit: 3"]),
        ("import helper", "import helper ; x = = 1", ["SyntaxError", "line 3"]),
        ("integer(1, 16)", "integer(5, 16)", ["dot.lanes = 4", "5 to 16"]),
        ('option("x",', 'str("x") or option("x",', ["dot_label", "option(...)"]),
        ("in_hash=True)", 'in_hash=True, section="buffers")', ["buffers.lanes", "must be in section dot"]),
        ("(System)", "", ["derives from System"]),
        ('"driver.hpp"', '"none.hpp"', ["driver none.hpp is not in"]),
        ('("dot.v",)', '("dot.v", "none.v")', ["Verilog file none.v is not in"]),
        ("hardware=", "hardware=None, facts=", ["hardware = None"]),
        ("software=Gemm(", "software=dict() or str(", ["line "]),
        ("software=Gemm(", "software=len, describe=(", ["software = ", "Gemm or Graph"]),
    ],
)
def test_every_fault_of_a_path_is_one_sentence(write, old, new, parts):
    assert old in DOT
    folder = write(DOT.replace(old, new, 1))
    refused(folder, str(folder / "architecture.py"), *parts)
    assert names() == list(BUILT_IN)


def test_a_wrong_object_is_shown(write):
    refused(write("ARCHITECTURE = 3"), "ARCHITECTURE = 3", "must be an Architecture")


def test_paths_that_are_not_there(tmp_path, monkeypatch, write):
    refused(tmp_path / "absent", "absent is no folder", "descriptor")
    refused("./absent", "absent is no folder")
    refused(tmp_path / "dot.py", "dot.py is no folder", "its architecture.py")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no architecture.py")
    refused("discriptor", "did you mean descriptor?")
    write()
    monkeypatch.chdir(tmp_path)
    refused("dot", "--architecture ./dot")


class Point:
    """An entry point of an installed package."""

    dist, value = None, "their_package.architecture"

    def __init__(self, name, module):
        self.name, self.module = name, module


def test_installed_packages_are_found_by_their_entry_points(write, tmp_path, monkeypatch):
    package = write(folder="their_package")
    (package / "architecture.py").write_text(DOT.replace("import helper", "from their_package import helper"))
    (package / "other.py").write_text("import absent_module")
    monkeypatch.syspath_prepend(tmp_path)
    points = [Point("dot", "their_package.architecture"), Point("other", "their_package.other")]
    points += [Point("dots", "their_package.architecture")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "heepgen.architectures" else [])
    assert find("dot").name == "dot" and load_config(architecture="dot", lanes=2).lanes == 2
    found = {e.name: e for e in registry.entries()}
    assert found["dot"].architecture and found["dot"].origin == Point.value
    assert "absent_module" in found["other"].fault and found["other"].architecture is None
    assert "calls itself dot" in found["dots"].fault
    with pytest.raises(HeepgenError, match="absent_module"):
        find("other")


def test_a_system_has_what_all_have():
    assert issubclass(find("cpu").config, System) and own_options(find("cpu").config) == ()
