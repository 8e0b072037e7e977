# SPDX-License-Identifier: Apache-2.0
"""X-HEEP changes: what differs between its generations, and which of them a checkout is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hls.errors import HeepgenError

TOP = "hw/system/x_heep_system.sv.tpl"
PORTS = ("intr_ext_peripheral_i", "ext_dma_read_req_o", "hw_fifo_done_i")
"""Ports of x_heep_system that came late: without them it is older than any generation here."""

PADS = (
    "clk_i",
    "rst_ni",
    "boot_select_i",
    "jtag_tck_i",
    "jtag_tms_i",
    "jtag_trst_ni",
    "jtag_tdi_i",
    "jtag_tdo_o",
    "uart_rx_i",
    "uart_tx_o",
    "exit_valid_o",
    *(f"gpio_{i}_io" for i in range(14)),
    "spi_flash_sck_io",
    "spi_flash_cs_0_io",
    "spi_flash_cs_1_io",
    *(f"spi_flash_sd_{i}_io" for i in range(4)),
    "spi_sck_io",
    "spi_cs_0_io",
    "spi_cs_1_io",
    *(f"spi_sd_{i}_io" for i in range(4)),
    "spi_slave_sck_io",
    "spi_slave_cs_io",
    "spi_slave_miso_io",
    "spi_slave_mosi_io",
    "pdm2pcm_pdm_io",
    "pdm2pcm_clk_io",
    "i2s_sck_io",
    "i2s_ws_io",
    "i2s_sd_io",
    "spi2_cs_0_io",
    "spi2_cs_1_io",
    "spi2_sck_io",
    *(f"spi2_sd_{i}_io" for i in range(4)),
    "i2c_scl_io",
    "i2c_sda_io",
)
"""Pads of X-HEEP's default pad configuration in every generation."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of x_heep_system."""

    name: str
    default: int
    description: str


@dataclass(frozen=True)
class Generation:
    """What the project says in other words, or in other files, to one generation of X-HEEP."""

    name: str
    marks: Mapping[str, str]
    """Text by the file of a checkout in which it stands: how the generation is told from the others."""
    types: Mapping[str, str]
    """X-HEEP's SystemVerilog types by our names for them."""
    parameters: tuple[Parameter, ...]
    """What x_heep_system must be told of the CPU; empty where X-HEEP's configuration says it."""
    board_pads: tuple[str, ...]
    """Inputs that only this generation has: low in simulation, pins of a board."""
    tied_pads: tuple[str, ...]
    """Inputs that only this generation has: low everywhere."""
    open_pads: tuple[str, ...]
    """Outputs that only this generation has, and that nobody needs."""
    cores: tuple[str, ...]
    """FuseSoC cores beside X-HEEP's own that x_heep_system needs."""
    sources: tuple[str, ...]
    """Files that X-HEEP's generator writes, and that no core of X-HEEP's holds."""
    simulation_cores: tuple[str, ...]
    """Models of memories and pads, where X-HEEP's own core does not bring them by the target's name."""
    simulation_defines: tuple[str, ...]
    """Turned on in simulation: what X-HEEP's own assertions, which it never enables, take for errors."""
    fpga_core: str
    board_files: str
    """Folder of the boards' folders."""
    configuration: str
    """Template of the Python that makes X-HEEP's configuration, in `generations/`."""
    variable: str
    """make's variable for that configuration."""
    modules: tuple[str, ...]
    """What X-HEEP's generators import, as Python's names."""
    baud_rate: int
    """Of the UART in simulation."""

    @property
    def pads(self) -> tuple[str, ...]:
        return (*PADS, *self.low_pads, *self.open_pads)

    @property
    def low_pads(self) -> tuple[str, ...]:
        return (*self.board_pads, *self.tied_pads)


NOVEMBER_2025 = Generation(
    name="X-HEEP main of November 2025",
    marks={TOP: "parameter COREV_PULP", "util/x_heep_gen/xheep.py": "", "Makefile": "PYTHON_X_HEEP_CFG"},
    types={
        "obi_req_t": "obi_pkg::obi_req_t",
        "obi_resp_t": "obi_pkg::obi_resp_t",
        "reg_req_t": "reg_pkg::reg_req_t",
        "reg_rsp_t": "reg_pkg::reg_rsp_t",
        "fifo_req_t": "fifo_pkg::fifo_req_t",
    },
    parameters=(
        Parameter("COREV_PULP", 0, "PULP extension of the CPU (cv32e40p)"),
        Parameter("FPU", 1, "Floating-point unit of the CPU"),
        Parameter("ZFINX", 0, "Floating-point values in the integer registers"),
        Parameter("X_EXT", 0, "CORE-V-XIF interface of the CPU"),
    ),
    board_pads=("execute_from_flash_i",),
    tied_pads=(),
    open_pads=(),
    cores=("x-heep::packages", "x-heep:ip:pad_control"),
    sources=("hw/system/pad_ring.sv", "hw/system/x_heep_system.sv"),
    simulation_cores=(),
    simulation_defines=(),
    fpga_core="openhwgroup.org:systems:core-v-mini-mcu-fpga",
    board_files="hw/fpga/board_files/vendor",
    configuration="november_2025.py.j2",
    variable="PYTHON_X_HEEP_CFG",
    modules=("hjson", "jsonref", "mako", "yaml"),
    baud_rate=256_000,
)

AUGUST_2026 = Generation(
    name="X-HEEP main of August 2026",
    marks={TOP: "xheep_obi_pkg::xheep_obi_req_t", "util/xheep_gen/xheep.py": "", "Makefile": "PYTHON_X_HEEP_CFG"},
    types={
        "obi_req_t": "xheep_obi_pkg::xheep_obi_req_t",
        "obi_resp_t": "xheep_obi_pkg::xheep_obi_rsp_t",
        "reg_req_t": "xheep_reg_pkg::xheep_reg_req_t",
        "reg_rsp_t": "xheep_reg_pkg::xheep_reg_rsp_t",
        "fifo_req_t": "xheep_fifo_pkg::xheep_fifo_req_t",
    },
    parameters=(),
    board_pads=(),
    tied_pads=("ddr_rcv_clk_i",),
    open_pads=("ddr_snd_clk_o",),
    cores=("x-heep::packages", "x-heep:ip:pad_control", "x-heep:ip:pad-ring"),
    sources=("hw/system/x_heep_system.sv",),
    simulation_cores=("pulp-platform.org::tech_cells_generic", "x-heep:sim:sram_wrapper", "x-heep:sim:pad_cells"),
    simulation_defines=("COMMON_CELLS_ASSERTS_OFF",),  # at the end: interleaved banks share their addresses
    fpga_core="x-heep:x-heep:x-heep-fpga-support",
    board_files="hw/fpga/xheep_fpga_support/board_files",
    configuration="august_2026.py.j2",
    variable="PYTHON_X_HEEP_CFG",
    modules=("hjson", "jsonref", "mako", "yaml", "tabulate", "black"),
    baud_rate=5_000_000,
)

ONE_CONFIGURATION = replace(
    AUGUST_2026,
    name="X-HEEP with one X_HEEP_CFG (after August 2026)",
    marks={**AUGUST_2026.marks, "Makefile": "X_HEEP_CFG"},
    variable="X_HEEP_CFG",
)

GENERATIONS = (NOVEMBER_2025, AUGUST_2026, ONE_CONFIGURATION)


def detect(folder: Path) -> Generation:
    """The first generation whose marks the checkout `folder` bears, all of them; raises `HeepgenError` without one."""
    wanted = f"use {', '.join(g.name for g in GENERATIONS[:-1])}, or {GENERATIONS[-1].name}"
    if not (folder / "core-v-mini-mcu.core").is_file():
        raise HeepgenError(f"--heep-dir {folder}: holds no X-HEEP (core-v-mini-mcu.core); give the path of a checkout.")
    missing = [port for port in PORTS if port not in _text(folder / TOP)]
    if missing:
        raise HeepgenError(f"--heep-dir {folder}: its x_heep_system has no port {missing[0]}; {wanted}.")
    for generation in GENERATIONS:
        if all(_bears(folder / name, mark) for name, mark in generation.marks.items()):
            return generation
    newest = GENERATIONS[-1]
    name, mark = next((name, mark) for name, mark in newest.marks.items() if not _bears(folder / name, mark))
    raise HeepgenError(
        f"--heep-dir {folder}: is X-HEEP of a time between those that heepgen knows "
        f"({f'no {mark} in {name}' if mark else f'there is no {name}'}); {wanted}."
    )


def _bears(path: Path, mark: str) -> bool:
    return path.is_file() and mark in _text(path)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
