# SPDX-License-Identifier: Apache-2.0
"""Generated C++ is in clang-format's style, whatever the network and its names."""

import subprocess
import sysconfig
from pathlib import Path

import pytest
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.emit.layout import statement, table
from firmware_gen.targets.descriptor.emission import render
from tests.house import ROOT
from tests.random_networks import random_network

CLANG_FORMAT = Path(sysconfig.get_path("scripts")) / "clang-format"
SOURCES = {".cpp", ".hpp", ".h"}


def formatted(text, name="any.cpp"):
    command = [CLANG_FORMAT, f"--style=file:{ROOT / '.clang-format'}", f"--assume-filename={name}"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


NAME = "a_block_whose_name_tells_what_it_does"


@pytest.mark.parametrize("operators, name", [("sequential", ""), ("dag", NAME), ("dag", 3 * NAME)])
def test_an_application_is_formatted(operators, name):
    network = random_network(len(name), operators)
    model = nn.Sequential()
    model.add_module(name or "0", network.model)
    generator = CodeGenerator(model.eval(), network.x)
    files = render(generator.program(), generator.sample)
    sources = {file: text for file, text in files.items() if Path(file).suffix in SOURCES}
    assert {
        "main.cpp",
        "gen/model.cpp",
        "gen/check.cpp",
        "gen/weights.hpp",
        "gen/runtime/heepstor_regs.h",
    } <= sources.keys()
    for file, text in sources.items():
        assert formatted(text, file) == text, file


@pytest.mark.parametrize("width", range(20, 100, 11))
@pytest.mark.parametrize("loop", ["", "for (int i = 0; i < 3; ++i)"])
def test_statements_are_broken_as_clang_format_does(width, loop):
    x, y, z = "x" * width, "y" * (width // 2), "z" * width
    call = f'some::function(a + b, {x}, f(1, 2), {{1, 2}}, "a, b(", {y}, 3, {z});'
    function = f"void f() {{\n  {statement(call, 2, loop)}\n  return;\n}}\n"
    assert formatted(function) == function


def test_tables_are_shielded_only_where_they_must_be():
    assert table("int a[] = {1, 2};") == "int a[] = {1, 2};"
    for text in ("int a[] = {1,\n 2};", f"int a[] = {{{', '.join('1' * 50)}}};"):
        assert formatted(text) != text and formatted(table(text)) == table(text)
