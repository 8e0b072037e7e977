# SPDX-License-Identifier: Apache-2.0
"""What an author's functions may return: everything else is one sentence with the architecture's name."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from firmware_gen.architectures import registry
from firmware_gen.architectures.contract import Architecture, Fact, Gemm, Limits, Verilog
from firmware_gen.architectures.registry import load_architecture, register
from firmware_gen.targets.calls.held import compute_of, cycles_of, kernels_of
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import driver_of, options_header, product_of
from gen.flows.accelerator.hardware import geometry
from gen.flows.accelerator.hw import generate_hw
from hls.config import System, integer, option
from hls.errors import HeepgenError
from sim.toolchain import host_compiler, run_tool
from tests.test_any_hardware import KEEPER


@dataclass(frozen=True)
class Options(System):
    architecture: ClassVar[str] = "mine"
    label: str = option(
        'a "quoted" \\ ü\n??/', "a text", lambda v: isinstance(v, str), "ends */ a comment", in_hash=True
    )
    many: int = option(-(2**40), "a number", lambda v: isinstance(v, int), "a number")
    share: float = option(0.1, "a number", lambda v: isinstance(v, float), "a number")
    on: bool = option(True, "a flag", lambda v: isinstance(v, bool), "a flag")


CONFIG = Options()
A, B = np.ones((3, 4), np.float32), np.ones((4, 2), np.int8)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def gemm(tmp_path):
    (tmp_path / "driver.hpp").write_text("")
    return Gemm(lambda config, a, b: a @ b.astype(np.float32), tmp_path / "driver.hpp", lambda config: Limits(4, 2))


def refused(function, *parts):
    with pytest.raises(HeepgenError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in ("architecture mine", *parts)), message


def overwrites(config, a, b):
    a[0] = 0
    return a @ b


@pytest.mark.parametrize(
    "compute, parts",
    [
        (lambda config, a, b: 1 / 0, ["ZeroDivisionError"]),
        (lambda config, a, b: sys.exit(0), ["SystemExit"]),
        (overwrites, ["read-only"]),
        (lambda config, a, b: (a @ b).astype(np.float64), ["float64 (3, 2)", "float32 (3, 2)"]),
        (lambda config, a, b: (a @ b).T.astype(np.float32), ["float32 (2, 3)", "float32 (3, 2)"]),
        (lambda config, a, b: (a @ b).astype(np.float32)[:, :1], ["float32 (3, 1)"]),
        (lambda config, a, b: (a @ b).tolist(), ["list"]),
        (lambda config, a, b: None, ["NoneType"]),
    ],
)
def test_a_product_is_float32_of_its_shape_and_leaves_its_operands(gemm, compute, parts):
    refused(lambda: multiply(product_of(replace(gemm, compute=compute), CONFIG), A, B), *parts)
    assert A.all() and B.all() and A.flags.writeable
    assert np.array_equal(compute_of(gemm, CONFIG)(A, B), np.full((3, 2), 4))


@pytest.mark.parametrize(
    "limits, parts",
    [
        (Limits(0, 4), ["positive integers"]),
        (Limits(4, -1), ["positive integers"]),
        (Limits(4.0, 4), ["TypeError", "float"]),
        ((4, 4), ["AttributeError"]),
        (None, ["AttributeError"]),
    ],
)
def test_limits_are_positive_integers(gemm, limits, parts):
    refused(lambda: product_of(replace(gemm, limits=lambda config: limits), CONFIG), *parts)
    product = product_of(replace(gemm, limits=lambda config: Limits(np.int64(7), np.uint8(3))), CONFIG)
    assert (type(product.depth), product.depth, product.width) == (int, 7, 3)


def test_kernels_have_names_of_ours_and_return_their_window(gemm):
    with pytest.raises(HeepgenError, match="'product' is no kernel that a driver may have: depthwise"):
        Architecture("", Options, replace(gemm, kernels={"product": len}), Verilog(("keeper.sv",), "keeper"))
    kernels = kernels_of(replace(gemm, kernels={"activate": lambda op, x, first, aux: x[:1]}), CONFIG)
    refused(lambda: kernels["activate"](None, A[0], False), "model of kernel activate", "float32 (1,)", "float32 (4,)")


@pytest.mark.parametrize("value, parts", [(-1, ["m=1, k=2, n=3 are -1"]), (2.5, ["float"]), ("x", ["TypeError"])])
def test_cycles_are_natural_numbers(gemm, value, parts):
    refused(lambda: cycles_of(replace(gemm, cycles=lambda *sizes: value), CONFIG)(1, 2, 3), *parts)


@pytest.mark.parametrize(
    "headers, parts",
    [
        (None, ["TypeError"]),
        ({"../../regs.h": ""}, ["'../../regs.h'", "without a folder"]),
        ({"regs.h": b""}, ["regs.h", "text"]),
        ({"kernels.hpp": ""}, ["kernels.hpp", "rename"]),
        ({"gemm.hpp": ""}, ["gemm.hpp", "rename"]),
        ({"options.hpp": ""}, ["options.hpp", "rename"]),
    ],
)
def test_headers_replace_nothing_of_ours(gemm, headers, parts):
    refused(lambda: driver_of(replace(gemm, headers=lambda config: headers), CONFIG), *parts)


def test_a_driver_is_utf8(gemm):
    Path(gemm.driver).write_bytes(b"// \xe9\n")
    with pytest.raises(HeepgenError, match=r"driver\.hpp is not in UTF-8: .* at byte 3"):
        driver_of(gemm, CONFIG)


@pytest.mark.parametrize(
    "change, parts",
    [
        ({"documents": lambda config: {"../x.h": ""}}, ["'../x.h'"]),
        ({"documents": lambda config: {"README.md": ""}}, ["README.md", "rename"]),
        ({"documents": lambda config: {"rtl": ""}}, ["rtl", "rename"]),
        ({"facts": lambda config: [3]}, ["3 is no Fact"]),
        ({"facts": lambda config: [Fact("a", "b", object(), "c")]}, ["is no Fact of a number"]),
        ({"describe": lambda config: None}, ["describe says None"]),
        ({"describe": lambda config: "two\nlines"}, ["describe says 'two\\nlines'"]),
    ],
)
def test_what_is_written_beside_hardware(gemm, tmp_path, change, parts):
    (tmp_path / "keeper.sv").write_text(KEEPER)
    own = Architecture("", Options, gemm, Verilog((tmp_path / "keeper.sv",), "keeper"), folder=tmp_path, **change)
    register(own)
    refused(lambda: generate_hw(CONFIG, tmp_path / "hw"), *parts)
    assert not (tmp_path / "hw").exists() and not (tmp_path / "x.h").exists()


def test_a_text_among_the_options_ends_no_line_and_no_quotation(gemm, tmp_path):
    (tmp_path / "keeper.sv").write_text(KEEPER)
    register(Architecture("", Options, gemm, Verilog((tmp_path / "keeper.sv",), "keeper"), folder=tmp_path))
    generate_hw(CONFIG, tmp_path / "hw")
    core = (tmp_path / "hw" / "heepstor.core").read_text().splitlines()
    said = next(line.removeprefix("description: ") for line in core if line.startswith("description: "))
    assert json.loads(said) == f"Accelerator, {geometry(CONFIG)}" and '\\"quoted' in json.loads(said)
    text = (tmp_path / "hw" / "rtl" / "heepstor.v").read_text()
    assert any(line.startswith("//   mine.label") and line.endswith('??/"') for line in text.splitlines())


def test_a_peak_is_a_natural_number(gemm):
    for peak in (lambda config: -1, lambda config: "x", lambda config: 1 / 0):
        own = Architecture("", Options, gemm, Verilog(("keeper.sv",), "keeper"), peak=peak)
        refused(lambda own=own: own.most_macs(CONFIG))


def test_options_are_constants_of_any_value(tmp_path):
    label = CONFIG.label.encode()
    (tmp_path / "options.hpp").write_text(options_header(CONFIG))
    (tmp_path / "main.cpp").write_text(
        '#include <string.h>\n#include "options.hpp"\nusing namespace heepstor::options;\n'
        f"static const unsigned char expected[] = {{{', '.join(map(str, label))}, 0}};\n"
        "int main() {\n  const bool same = !strcmp(label, reinterpret_cast<const char*>(expected));\n"
        "  return !(same && many == -1099511627776 && share == 0.1 && on);\n}\n"
    )
    run_tool([*host_compiler(), "-std=c++17", "-Wall", tmp_path / "main.cpp", "-o", tmp_path / "main"], "compiling")
    run_tool([tmp_path / "main"], "the program")


def test_what_an_architecture_prints_is_not_in_a_report(tmp_path, capsys):
    (tmp_path / "architecture.py").write_text("print('said')\nraise ValueError(1)")
    with pytest.raises(HeepgenError, match="line 2: ValueError: 1"):
        load_architecture(tmp_path)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "said\n")


@pytest.mark.parametrize("name", ["hash", "memory_banks", "root", "ram_bytes"])
def test_options_replace_nothing_that_all_have(gemm, name):
    own = dataclass(frozen=True)(
        type(
            "Own",
            (Options,),
            {name: option(4, *integer(1, 8), "a number"), "__annotations__": {name: int}, "architecture": "mine"},
        )
    )
    with pytest.raises(HeepgenError, match=f"{name} of Own is an attribute of System"):
        Architecture("", own, gemm, Verilog(("keeper.sv",), "keeper"))


@pytest.mark.parametrize("files", [(), "keeper.sv"])
def test_verilog_files_are_several_names(tmp_path, files):
    (tmp_path / "driver.hpp").write_text("")
    (tmp_path / "architecture.py").write_text(
        "from tests.test_contract import *\n"
        "ARCHITECTURE = Architecture('', Options, Gemm(len, 'driver.hpp', len), "
        f"Verilog({files!r}, 'keeper'))"
    )
    with pytest.raises(HeepgenError, match="Verilog files = .*must be a tuple"):
        load_architecture(tmp_path)
