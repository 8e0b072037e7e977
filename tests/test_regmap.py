# SPDX-License-Identifier: Apache-2.0
"""Register map: the table is consistent, and header, hjson and document say the same as it does."""

import subprocess

import hjson
import pytest

from gen.documents.docs import DOCUMENTS, documents
from hls.bus.head import MAGIC
from hls.descriptor.interface import regmap
from hls.descriptor.interface.registers import ERRORS, REGISTER, REGISTERS
from sim.toolchain import host_compiler


def test_registers_and_fields_do_not_overlap():
    offsets = [r.offset for r in REGISTERS]
    assert offsets == sorted(set(offsets))
    assert all(offset % 4 == 0 for offset in offsets)
    for register in REGISTERS:
        masks = [((1 << b.width) - 1) << b.lsb for b in register.fields]
        assert sum(masks) < 1 << 32
        union = 0
        for mask in masks:
            assert not union & mask
            union |= mask


def test_header_compiles_as_cpp_and_gives_the_tables_values(tmp_path):
    checks = [f"static_assert(HEEPSTOR_MAGIC == {MAGIC}u);"]
    for register in REGISTERS:
        checks.append(f"static_assert(HEEPSTOR_{register.name}_REG == {register.offset});")
        for b in register.fields:
            name = f"HEEPSTOR_{register.name}_{b.name}"
            checks.append(
                f"static_assert({name}_BIT == {1 << b.lsb}u);"
                if b.width == 1
                else f"static_assert({name}_LSB == {b.lsb} && {name}_MASK == {(1 << b.width) - 1});"
            )
    checks += [f"static_assert(HEEPSTOR_ERROR_{name} == {code});" for name, (code, _) in ERRORS.items()]
    (tmp_path / "heepstor_regs.h").write_text(regmap.c_header())
    source = tmp_path / "check.cpp"
    source.write_text('#include "heepstor_regs.h"\n#include "heepstor_regs.h"\n' + "\n".join(checks) + "\n")
    done = subprocess.run(
        [*host_compiler(), "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_hjson_lists_every_register_at_its_offset():
    offset, seen = 0, {}
    for entry in hjson.loads(regmap.register_hjson())["registers"]:
        if "skipto" in entry:
            offset = int(entry["skipto"], 16)
            continue
        seen[entry["name"]] = offset
        offset += 4
    assert seen == {r.name: r.offset for r in REGISTERS}


def test_hjson_fields_have_the_tables_bits():
    entries = {e["name"]: e for e in hjson.loads(regmap.register_hjson())["registers"] if "name" in e}
    geometry = {f["name"]: str(f["bits"]) for f in entries["GEOMETRY"]["fields"]}
    expected = {
        b.name: f"{b.lsb + b.width - 1}:{b.lsb}" if b.width > 1 else str(b.lsb) for b in REGISTER["GEOMETRY"].fields
    }
    assert geometry == expected


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_documents_are_up_to_date(request, name):
    text = (request.config.rootpath / name).read_text()
    assert text == DOCUMENTS[name](), "run make docs"


def test_generated_schemas_are_up_to_date(request):
    folder = request.config.rootpath / "docs" / "schemas"
    written = {f"docs/schemas/{path.name}": path.read_text() for path in folder.iterdir()}
    assert written == {name: text for name, text in documents().items() if name.startswith("docs/schemas/")}
