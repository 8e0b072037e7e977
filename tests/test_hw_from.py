# SPDX-License-Identifier: Apache-2.0
"""`heepgen hw --from explore.db --point N`: the design of a point, and nothing in place of one that there is not."""

import json
import sqlite3

import pytest
from click.testing import CliRunner

from gen.cli import main
from gen.explore.space import described
from gen.explore.store import FORM, Store
from hls.config import Config

DESIGNS = (Config(rows=2, cols=3, ports=1, functions=False, multiply=False), Config(rows=5, cols=1, arithmetic="fma"))


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "explore.db"
    with Store(path) as own:
        assert own.numbers(map(described, DESIGNS)) == [1, 2]
    return path


def hw(tmp_path, *options):
    return CliRunner().invoke(main, ["hw", "-o", str(tmp_path / "hw"), *map(str, options)])


def test_point_is_built(store, tmp_path):
    before = store.read_bytes()
    said = hw(tmp_path, "--from", store, "--point", 1, "--prefix", "mine", "--json", tmp_path / "hw.json")
    assert said.exit_code == 0, said.output
    report = json.loads((tmp_path / "hw.json").read_text())
    assert report["config_hash"] == f"0x{DESIGNS[0].hash:08x}" and (report["rows"], report["cols"]) == (2, 3)
    assert (tmp_path / "hw" / "rtl" / "mine.v").is_file()
    assert store.read_bytes() == before


def refusal(said, tmp_path):
    assert said.exit_code == 1 and len(said.output.splitlines()) == 1 and not (tmp_path / "hw").exists()
    return said.output


def test_what_is_none_is_refused(store, tmp_path):
    assert "has no point 3" in refusal(hw(tmp_path, "--from", store, "--point", 3), tmp_path)
    missing = tmp_path / "other.db"
    assert "no such file" in refusal(hw(tmp_path, "--from", missing, "--point", 1), tmp_path)
    assert not missing.exists()
    for number, content in enumerate((b"", b"point,rows\n1,2\n", b"\0" * 100)):
        other = tmp_path / f"{number}.db"
        other.write_bytes(content)
        assert "no explore.db" in refusal(hw(tmp_path, "--from", other, "--point", 1), tmp_path)
        assert other.read_bytes() == content
    assert "--from" in refusal(hw(tmp_path, "--from", tmp_path, "--point", 1), tmp_path)


def test_other_versions_are_refused(store, tmp_path):
    with sqlite3.connect(store) as own:
        own.execute("insert into configs values (3, ?)", (json.dumps({"architecture": "descriptor", "lanes": 4}),))
        own.execute("insert into configs values (4, ?)", (json.dumps({"architecture": "nowhere"}),))
    own.close()
    assert "lanes" in refusal(hw(tmp_path, "--from", store, "--point", 3), tmp_path)
    assert "nowhere" in refusal(hw(tmp_path, "--from", store, "--point", 4), tmp_path)
    with sqlite3.connect(store) as own:
        own.execute(f"pragma user_version = {FORM + 1}")
    own.close()
    assert "another version of heepgen" in refusal(hw(tmp_path, "--from", store, "--point", 1), tmp_path)


def test_options_that_contradict(store, tmp_path):
    assert "--point" in refusal(hw(tmp_path, "--from", store), tmp_path)
    assert "--from" in refusal(hw(tmp_path, "--point", 1), tmp_path)
    assert "leave out" in refusal(hw(tmp_path, "--from", store, "--point", 1, "--rows", 4), tmp_path)
