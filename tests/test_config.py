# SPDX-License-Identifier: Apache-2.0
"""Configuration: what is read, what is refused, and what the refusal says."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.config import OPTIONS, Config
from hls.errors import HeepgenError

# Hardware-relevant attribute -> another legal value.
OTHER = {
    "rows": 7,
    "cols": 9,
    "arithmetic": "fma",
    "ports": 3,
    "activation_words": 4096,
    "scratchpad_words": 0,
    "weight_bytes": 2048,
    "accumulator_entries": 128,
    "functions": False,
    "multiply": False,
    "int4_weights": False,
    "banded": False,
    "packed_scales": False,
}
AROUND = {
    "memory_banks": 6,
    "memory_banks_interleaved": (4,),
    "bank_kib": 16,
    "slave_base": 0xF0001000,
    "irq_line": 3,
    "prefix": "other_",
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "cfg.hjson"
        path.write_text(text)
        return path

    return write


def refused(path, **overrides):
    with pytest.raises(HeepgenError) as caught:
        Config.load(path, **overrides)
    return str(caught.value)


def test_file_in_the_repository_spells_out_the_defaults(request):
    path = request.config.rootpath / "heepstor_cfg.hjson"
    assert Config.load(path) == Config() == Config.load()
    text = path.read_text()
    assert all(re.search(rf"\b{o.key.split('.')[-1]}:", text) for o in OPTIONS)


def test_every_option_is_read(write):
    path = write("""
    # braces around the whole may be left out
    systolic_array: {
      rows: 3
      cols: 30
      arithmetic: fma
    }
    ports: 4
    buffers: { activation_words: 1024, weight_bytes: 256, accumulator_entries: 16, scratchpad_words: 512 }
    memory: { banks: 2, banks_interleaved: [4], bank_kib: 64 }
    xheep: {
      slave_base: 0xF0010000
      irq_line: 3
    }
    """)
    assert Config.load(path) == Config(
        3,
        30,
        "fma",
        4,
        1024,
        256,
        16,
        512,
        memory_banks=2,
        memory_banks_interleaved=(4,),
        bank_kib=64,
        slave_base=0xF0010000,
        irq_line=3,
    )


def test_the_predecessors_file_is_a_square_array(write):
    config = Config.load(write("{ systolic_array: { size: 12 } }"))
    assert (config.rows, config.cols) == (12, 12)


def test_overrides_win_and_none_is_no_override(write):
    path = write("{systolic_array: {rows: 4}}")
    assert Config.load(path, rows=5, cols=None) == Config(rows=5)


@pytest.mark.parametrize(
    "rows, cols, words", [(8, 8, 4096), (1, 1, 4096), (16, 16, 16384), (31, 8, 16384), (32, 32, 65536)]
)
def test_the_scratchpad_follows_the_array_unless_it_is_given(write, rows, cols, words):
    small, own = Config(), Config(scratchpad_words=4096)
    assert small == own and small.hash == own.hash, "chosen or given, hardware is the same"
    for path in (None, write('{buffers: {scratchpad_words: "auto"}}')):
        assert Config.load(path, rows=rows, cols=cols).scratchpad_words == words
    assert dataclasses.replace(small, rows=rows, cols=cols).scratchpad_words == words
    assert dataclasses.replace(own, rows=rows, cols=cols).scratchpad_words == 4096
    assert Config.load(write("{buffers: {scratchpad_words: 0}}"), rows=rows, cols=cols).scratchpad_words == 0


def test_empty_file_is_all_defaults(write):
    assert Config.load(write("")) == Config()


@pytest.mark.parametrize(
    "text, parts",
    [
        ("{systolic_array: {rows: 0}}", ["systolic_array.rows = 0", "1 to 32"]),
        ("{systolic_array: {cols: 33}}", ["systolic_array.cols = 33", "1 to 32"]),
        ("{systolic_array: {size: 40}}", ["systolic_array.size = 40", "1 to 32"]),
        ("{systolic_array: {size: 4, rows: 4}}", ["systolic_array.size", "rows and cols"]),
        ('{systolic_array: {arithmetic: "bf16"}}', ["systolic_array.arithmetic", '"bf16"', '"aligned" or "fma"']),
        ("{ports: 5}", ["ports = 5", "1 to 4"]),
        ("{ports: -1}", ["ports = -1", "1 to 4"]),
        ("{ports: 1.5}", ["ports = 1.5", "an integer"]),
        ('{ports: "2"}', ['ports = "2"', "an integer"]),
        ("{ports: true}", ["ports = true", "an integer"]),
        ("{ports: null}", ["ports = null", "an integer"]),
        ("{ports: [2]}", ["ports = [2]", "an integer"]),
        ("{ports: {a: 1}}", ["ports", "an integer"]),
        ("{buffers: {activation_words: 3000}}", ["buffers.activation_words = 3000", "power of two", "256 to 65536"]),
        ("{buffers: {weight_bytes: 128}}", ["buffers.weight_bytes = 128", "256 to 65536"]),
        ("{buffers: {accumulator_entries: 8}}", ["buffers.accumulator_entries = 8", "16 to 1024"]),
        ("{memory: {banks: 1}}", ["memory.banks = 1", "2 to 64"]),
        ("{memory: {banks_interleaved: [8, 3]}}", ["memory.banks_interleaved = [8, 3]", "power of two"]),
        ("{memory: {banks_interleaved: 8}}", ["memory.banks_interleaved = 8", "list"]),
        ("{memory: {bank_kib: 33}}", ["memory.bank_kib = 33", "power of two"]),
        ('{xheep: {slave_base: "0xF0000010"}}', ["xheep.slave_base", "0xf0000000"]),
        ('{xheep: {slave_base: "0xZZ"}}', ["xheep.slave_base", "0xZZ"]),
        ("{xheep: {irq_line: 16}}", ["xheep.irq_line = 16", "0 to 15"]),
        ("{systolic_array: 8}", ["systolic_array = 8", "section"]),
        ("{systolic_array: {rowz: 8}}", ["systolic_array.rowz", "did you mean systolic_array.rows?"]),
        ("{rows: 8}", ["rows", "did you mean systolic_array.rows?"]),
        ("{buffer: {weight_bytes: 256}}", ["unknown option buffer"]),
        ("{zebra: 1}", ["unknown option zebra", "systolic_array.rows"]),
        ("{ports: 1\nports: 2}", ["ports", "twice"]),
        ("{\n\nports: }", ["line 3"]),
        ("{systolic_array: {rows: 4}", ["line 1", "not closed"]),
        ("[1, 2]", ["[1, 2]", "named options"]),
        ("/*", ["comment is not closed"]),
        ("[" * 20_000, ["nested too deeply"]),
        ("{a:" * 20_000, ["nested too deeply"]),
        ("{ports: " + "9" * 5000 + "}", ["out of every option's range"]),
        ("{ports: 1e999}", ["out of every option's range"]),
        ("{" + "a" * 5000 + ": 1}", ["unknown option aaa"]),
        ('{"a\\nb": 1}', ["unknown option a\\nb"]),
        (" " * 2**20 + "{}", ["longer than"]),
    ],
)
def test_bad_files_are_refused_by_name_value_and_range(write, text, parts):
    path = write(text)
    message = refused(path)
    assert "\n" not in message
    assert all(part in message for part in [str(path), *parts]), message


@pytest.mark.parametrize(
    "attribute, low, high, steps",
    [
        ("rows", 1, 32, False),
        ("cols", 1, 32, False),
        ("ports", 1, 4, False),
        ("activation_words", 256, 65536, True),
        ("weight_bytes", 256, 65536, True),
        ("accumulator_entries", 16, 1024, True),
        ("scratchpad_words", 256, 65536, True),
        ("memory_banks", 2, 64, False),
        ("irq_line", 0, 15, False),
    ],
)
def test_ranges_end_where_they_say(attribute, low, high, steps):
    for value in (low, high):
        assert getattr(Config(**{attribute: value}), attribute) == value
    below, above = (low // 2, 2 * high) if steps else (low - 1, high + 1)
    for value in (below, above, *((low + 1, high - 1) if steps else ())):
        with pytest.raises(HeepgenError, match=f"= {value}: must be"):
            Config(**{attribute: value})


def test_defaults():
    config = Config()
    assert (config.rows, config.cols, config.arithmetic, config.ports) == (8, 8, "aligned", 2)
    assert (config.memory_banks, config.memory_banks_interleaved, config.bank_kib) == (4, (8, 4), 32)


def test_missing_unreadable_and_binary_files(tmp_path):
    assert "No such file" in refused(tmp_path / "absent.hjson")
    assert "directory" in refused(tmp_path).lower()
    (tmp_path / "binary.hjson").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(tmp_path / "binary.hjson")


def test_a_bad_override_does_not_blame_the_file(write):
    path = write("{ports: 2}")
    assert refused(path, ports=9) == "ports = 9: must be an integer from 1 to 4."
    assert "did you mean rows?" in refused(path, rowss=9)


def test_construction_is_checked_too():
    with pytest.raises(HeepgenError, match="systolic_array.rows = 0"):
        Config(rows=0)
    with pytest.raises(HeepgenError, match="systolic_array.cols"):
        dataclasses.replace(Config(), cols=True)


@given(st.integers(1, 32), st.integers(1, 32), st.integers(1, 4))
def test_derived_geometry(rows, cols, ports):
    config = Config(rows=rows, cols=cols, ports=ports)
    widest = max(rows, cols, ports)
    assert config.banks >= widest > config.banks // 2
    assert config.banks & (config.banks - 1) == 0
    assert config.diagonal == min(rows, cols)
    assert 1 <= config.load_rows <= rows
    # a beat of weights is as wide as the array needs, or as the bus delivers, whichever is more
    assert config.load_rows * cols <= max(cols, (8 if config.int4_weights else 4) * ports)
    assert config.load_rows == rows or (config.load_rows + 1) * cols > (8 if config.int4_weights else 4) * ports


@pytest.mark.parametrize("attribute, value", OTHER.items())
def test_hash_tells_hardware_apart(attribute, value):
    assert Config(**{attribute: value}).hash != Config().hash


@pytest.mark.parametrize("attribute, value", AROUND.items())
def test_hash_ignores_the_system_around(attribute, value):
    assert Config(**{attribute: value}).hash == Config().hash


def test_hash_is_32_bits_and_the_same_in_every_process():
    import subprocess
    import sys

    there = subprocess.run(
        [sys.executable, "-c", "from hls.config import Config; print(Config().hash)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(there.stdout) == Config().hash < 1 << 32


def test_every_attribute_has_an_option_and_is_classified():
    attributes = {f.name for f in dataclasses.fields(Config)}
    assert {o.attribute for o in OPTIONS} == attributes == OTHER.keys() | AROUND.keys()
