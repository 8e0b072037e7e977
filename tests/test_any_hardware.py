# SPDX-License-Identifier: Apache-2.0
"""Hardware of architectures that are not ours: generated, linted, and reached by firmware on the virtual SoC."""

import re
import subprocess
from pathlib import Path

import pytest

from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import find, load_architecture
from gen.flows.accelerator.hw import generate_hw
from gen.flows.measure.run import hardware
from gen.flows.soc.xheep import generate_xheep, regenerate
from hls.bus.head import name_words
from hls.bus.obi import pins
from hls.config import INTERFACE_VERSION, Config
from hls.errors import HeepgenError
from sim.build import accelerator_files
from sim.firmware import compile_firmware
from sim.run import run_soc
from sim.toolchain import lint
from tests import xheep_project
from tests.xheep_checkouts import sources

heep = xheep_project.heep
DATA = Path(__file__).parent / "sim_data"

SOURCE = """\
from dataclasses import dataclass
from typing import ClassVar
from firmware_gen.architectures.contract import *
from hls.config import System, integer, option

@dataclass(frozen=True)
class Config(System):
    architecture: ClassVar[str] = "{name}"
    lanes: int = option(4, *integer(1, 16), "products at once", in_hash=True)

{hardware}

ARCHITECTURE = Architecture(
    summary="holds a word",
    config=Config,
    software=Gemm(lambda config, a, b: a @ b, "driver.hpp", lambda config: Limits(64, 4)),
    hardware=HARDWARE,
)
"""

VERILOG = 'HARDWARE = Verilog(("keeper.sv",), "keeper", lambda config: {"LANES": config.lanes})'

KEEPER = """\
// SPDX-License-Identifier: Apache-2.0
module keeper #(
    parameter int LANES = 1
) (
    input logic clk,
    input logic rst_n,
    input logic s_req,
    input logic s_we,
    input logic [3:0] s_be,
    input logic [31:0] s_addr,
    input logic [31:0] s_wdata,
    output logic s_gnt,
    output logic s_rvalid,
    output logic [31:0] s_rdata
);
  logic [31:0] kept;
  wire unused = &{1'b0, s_be, s_addr[31:3], s_addr[1:0]};
  assign s_gnt = s_req;
  always_ff @(posedge clk) begin
    s_rvalid <= s_req && rst_n;
    s_rdata <= s_addr[2] ? kept : LANES;
    if (s_req && s_we) kept <= s_wdata;
  end
endmodule
"""

MOVER = 'HARDWARE = Verilog(("two_movers.v",), "two_movers", lambda config: {"PORTS": 2}, masters=lambda config: 2)'

QUIET = "".join(f"/* verilator lint_off {rule} */\n" for rule in ("DECLFILENAME", "UNUSEDPARAM", "UNUSEDSIGNAL"))
MOVER_V = QUIET + (DATA / "heepstor.v").read_text().replace("module heepstor", "module two_movers")

MYHDL = """\
from myhdl import Signal, always, always_comb, intbv
from hls.lib.unit import unit
from hls.lib.wiring import ignore

@unit(out="s.gnt s.rvalid s.rdata idle")
def keeper(clk, rst_n, s, idle, *, config):
    kept = Signal(intbv(0)[32:])
    lanes = config.lanes

    @always_comb
    def grant():
        s.gnt.next = s.req
        idle.next = not s.req

    @always(clk.posedge)
    def step():
        s.rvalid.next = s.req and rst_n
        s.rdata.next = lanes
        if s.addr[2]:
            s.rdata.next = kept
        if s.req and s.we:
            kept.next = s.wdata

    return grant, step, ignore(s.addr, 0, 2), ignore(s.addr, 3, 32), ignore(s.be, 0, 4)

HARDWARE = MyHdl(lambda: keeper)
"""

READ = """
#include "soc.hpp"
int main() {
  volatile uint32_t* words = &soc_register(ACCELERATOR);
  static const char hex[] = "0123456789abcdef";
  words[0x104 / 4] = 0x12345678;
  static const unsigned offsets[] = {0x00u, 0x04u, 0x0cu, 0x80u, 0x84u, 0x88u, 0x8cu, 0x60u, 0x100u, 0x104u};
  for (unsigned i : offsets) {
    char text[10] = {};
    const uint32_t word = words[i / 4];
    for (int j = 0; j < 8; ++j) text[j] = hex[word >> (28 - 4 * j) & 15];
    text[8] = '\\n';
    soc_puts(text);
  }
  soc_fast_interrupt_enable(IRQ_LINE);
  if (soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_PENDING) >> IRQ_LINE & 1) return 2;  // it has none
  const uint32_t begin = words[0x50 / 4], end = words[0x50 / 4];
  return words[0x54 / 4] == 0 && end - begin > 0 && end - begin < 50 ? 0 : 1;
}
"""


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def architecture(tmp_path):
    def architecture(how=VERILOG, name="keeper_1", **files):
        folder = tmp_path / "user"
        folder.mkdir(exist_ok=True)
        (folder / "architecture.py").write_text(SOURCE.format(name=name, hardware=how))
        (folder / "driver.hpp").write_text("")
        for file, text in ({"keeper.sv": KEEPER, "two_movers.v": MOVER_V} | files).items():
            (folder / file).write_text(text)
        return load_architecture(folder)

    return architecture


def linted(config, folder):
    report = generate_hw(config, folder)
    files = accelerator_files(folder / "rtl")
    lint(files, config.root)
    return report, {file.name: file.read_text() for file in files}


def firmware(text, config, folder, base=0):
    source = folder / "main.cpp"
    source.write_text(text)
    defines = {"ACCELERATOR": f"{config.slave_base + base:#x}u", "IRQ_LINE": config.irq_line}
    return compile_firmware([source], [DATA], defines, config, folder / "main.elf")


@pytest.mark.parametrize("how", [VERILOG, MYHDL], ids=["verilog", "myhdl"])
def test_firmware_reads_the_head_and_reaches_the_registers_behind_it(architecture, tmp_path, how):
    config = architecture(how).config(lanes=7, slave_base=0xF0002000)
    report, files = linted(config, tmp_path / "hw")
    assert report.to_dict() == {
        "schema": "heepgen.hw/1",
        "architecture": "keeper_1",
        "lanes": 7,
        "config_hash": f"0x{config.hash:08x}",
        "modules": sorted(Path(name).stem for name in files),
    }
    result = run_soc(firmware(READ, config, tmp_path), hardware(config), config, max_cycles=200_000)
    words = [int(line, 16) for line in result.uart.splitlines()]
    assert words == [0x4850474E, INTERFACE_VERSION, config.hash, *name_words("keeper_1"), 0, 7, 0x12345678]
    assert result.ok and result.accelerator_ports == ()


MOVE = """
#include "sim_firmware.hpp"
uint32_t src[64], dst[64];
int main() {
  for (unsigned i = 0; i < 64; ++i) src[i] = i * i + 7;
  device(kDelay) = 3;
  start(src, dst, 32, kCopy);
  wait_asleep();
  for (unsigned i = 0; i < 64; ++i) if (dst[i] != src[i]) return 1;
  return acknowledge() && soc_register(ACCELERATOR - 0x100 + 0x84) == 'r' ? 0 : 2;
}
"""


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_masters_and_the_interrupt_go_through(architecture, tmp_path, stall):
    config = architecture(MOVER, name="mover").config()
    elf = firmware(MOVE, config, tmp_path, 0x100)
    result = run_soc(elf, hardware(config), config, max_cycles=200_000, stall_probability=stall)
    assert result.ok, result
    assert [port.words for port in result.accelerator_ports] == [64, 64]


@pytest.mark.parametrize("how, masters", [(VERILOG, 0), (MOVER, 2)])
def test_an_x_heep_project_has_as_many_masters(architecture, heep, tmp_path, monkeypatch, how, masters):
    config = architecture(how).config(irq_line=3)
    report = generate_xheep(heep, tmp_path / "project", config)
    assert report.geometry == "keeper_1, lanes 4"
    lint(sources(tmp_path / "project"), "heepstor_soc")
    commands = [printed(tmp_path / "project", target) for target in ("heepstor-gen", "run-virtual")]
    paths = [re.fullmatch(r"(xheep --regenerate \.|run app --elf \S+) --architecture (\S+)", c)[2] for c in commands]
    monkeypatch.chdir(tmp_path / "project")
    for path in paths:
        monkeypatch.setattr(registry, "_loaded", {})
        assert load_architecture(path).name == config.architecture
    again = regenerate(".")
    assert (again.geometry, again.notes) == (report.geometry, report.notes)


def printed(project, target):
    """The command of heepgen that a target of the project's Makefile runs, for an application and its program."""
    (project / "sw" / "applications" / "app").mkdir(parents=True, exist_ok=True)
    heep = project.parent / "built"
    (heep / "sw" / "build").mkdir(parents=True, exist_ok=True)
    (heep / "sw" / "build" / "main.elf").touch()
    variables = ["HEEPGEN=echo", f"HEEP_DIR={heep}", "PROJECT=app", "APP_app=app"]
    done = subprocess.run(["make", "-s", "-C", project, target, *variables], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_project_of_an_architecture_that_is_not_there_is_refused(architecture, heep, tmp_path, monkeypatch):
    generate_xheep(heep, tmp_path / "project", architecture().config())
    monkeypatch.setattr(registry, "_loaded", {})
    with pytest.raises(HeepgenError, match="heepstor.json is for architecture keeper_1.*--architecture PATH"):
        regenerate(tmp_path / "project")


def test_names_begin_with_the_prefix_and_fusesoc_knows_what_is_systemverilog(architecture, tmp_path):
    config = architecture().config(prefix="mine_")
    _, files = linted(config, tmp_path / "hw")
    assert sorted(files) == ["keeper.sv", "mine.v", "mine_register_head.v"]
    core = (tmp_path / "hw" / "mine.core").read_text()
    assert "- rtl/keeper.sv: {file_type: systemVerilogSource}\n" in core and "- rtl/mine.v\n" in core
    assert "keeper_1" in (tmp_path / "hw" / "README.md").read_text()


def test_packages_come_before_the_modules_that_use_them(architecture, tmp_path):
    package = "// SPDX-License-Identifier: Apache-2.0\npackage widths;\n  localparam int Word = 32;\nendpackage\n"
    how = VERILOG.replace('("keeper.sv",)', '("widths.sv", "keeper.sv")')
    text = KEEPER.replace("logic [31:0] kept", "logic [widths::Word-1:0] kept")
    config = architecture(how, **{"keeper.sv": text, "widths.sv": package}).config()
    linted(config, tmp_path / "hw")
    core = (tmp_path / "hw" / "heepstor.core").read_text()
    assert core.index("widths.sv") < core.index("keeper.sv")
    elf = firmware("int main() { return 0; }", config, tmp_path)
    assert run_soc(elf, hardware(config), config, max_cycles=200_000).ok


def test_verilog_is_generated_anew_when_a_source_or_an_option_changes(architecture):
    first = architecture()
    folder = hardware(first.config())
    assert hardware(first.config(memory_banks=8)) == folder
    others = {hardware(first.config(lanes=5)), hardware(architecture(**{"keeper.sv": KEEPER + "\n"}).config())}
    assert len(others | {folder}) == 3


def test_verilog_is_generated_anew_when_a_module_in_a_subfolder_changes(architecture, tmp_path):
    (tmp_path / "user" / "units").mkdir(parents=True)
    how = MYHDL.replace("from myhdl", "from units.lanes import LANES\nfrom myhdl").replace("config.lanes", "LANES")
    folders = set()
    for lanes in (3, 5):
        config = architecture(how, **{"units/lanes.py": f"LANES = {lanes}"}).config()
        assert f"= {lanes};" in (hardware(config) / "heepstor_keeper_1.v").read_text()
        folders.add(hardware(config))
    assert len(folders) == 2


@pytest.mark.parametrize(
    "old, new, parts",
    [
        ("output logic s_gnt,", "", ["has no port s_gnt", "output"]),
        ("input logic [3:0] s_be", "input logic [7:0] s_be", ["port s_be is an input of 8 bits", "input of 4 bits"]),
        ("input logic rst_n", "output logic rst_n", ["port rst_n is an output of 1 bit,", "input of 1 bit."]),
        ("input logic [31:0] s_wdata", "input logic [3:0][7:0] s_wdata", ["s_wdata is no plain vector"]),
        ("input logic clk,", "input logic clk, input logic clk2,", ["port clk2, which an accelerator has not"]),
        ("input logic clk,", "input logic clk, output logic m_req,", ["port m_req", "0 masters"]),
        ("input logic clk,", "input logic clk, output logic [1:0] irq,", ["irq is an output of 2 bits"]),
        ("int LANES = 1", "int LANE = 1, localparam int LANES = LANE", ["not found in the design: LANES"]),
        ("module keeper ", "module keper ", ["'keeper' was not found"]),
        ("assign s_gnt = s_req;", "assign s_gnt = s_req", ["keeper.sv", "syntax error"]),
        ("endmodule", "endmodule\nmodule heepstor;\nendmodule", ["name of its module heepstor"]),
    ],
)
def test_a_module_with_other_ports_is_refused_by_name(architecture, tmp_path, old, new, parts):
    assert old in KEEPER
    config = architecture(**{"keeper.sv": KEEPER.replace(old, new)}).config()
    with pytest.raises(HeepgenError) as caught:
        generate_hw(config, tmp_path / "hw")
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in ["architecture keeper_1", *parts]), message
    assert not (tmp_path / "hw").exists()


@pytest.mark.parametrize(
    "how, parts",
    [
        (MYHDL.replace("s, idle,", "s, idle, extra,"), ["port extra, which unit keeper has besides"]),
        (MYHDL.replace("clk, rst_n, s,", "clk, s,"), ["port rst_n, which unit keeper has not"]),
        (MYHDL.replace("lambda: keeper", "lambda: keeper, lambda config: 1"), ["port m, which unit keeper has not"]),
        (MYHDL.replace("lambda: keeper", "lambda: keeper, lambda config: 5"), ["5 masters", "from 0 to 4"]),
        (MYHDL.replace("idle.next = not s.req", ""), ["port idle is not driven"]),
        (MYHDL.replace("lanes = config.lanes", "lanes = config.lane"), ["AttributeError", "lane"]),
        (VERILOG.replace("config.lanes", "config.lane"), ["AttributeError", "lane"]),
        (VERILOG.replace("config.lanes", "2.5"), ["parameter 'LANES' = 2.5"]),
        (VERILOG.replace('"keeper.sv",', '"keeper.sv", "driver.hpp"'), ["driver.hpp", "NAME.v or NAME.sv"]),
    ],
)
def test_a_description_that_does_not_fit_is_refused(architecture, tmp_path, how, parts):
    with pytest.raises(HeepgenError) as caught:
        generate_hw(architecture(how).config(), tmp_path / "hw")
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
    assert not (tmp_path / "hw").exists()


def test_the_cpu_alone_has_no_hardware(tmp_path):
    with pytest.raises(HeepgenError, match="architecture cpu has no hardware"):
        generate_hw(find("cpu").config(), tmp_path / "hw")


def test_the_ports_of_the_contract_are_those_of_the_default_architecture():
    text = (hardware(Config(rows=1, cols=1, ports=3)) / "heepstor.v").read_text()
    declared = dict.fromkeys(re.findall(r"^    ((?:input|output) (?:wire|reg) .*?\w+),?$", text, re.MULTILINE))
    assert {line.replace(" reg ", " wire ") for line in declared} == {pin.declared() for pin in pins(3)}
