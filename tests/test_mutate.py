# SPDX-License-Identifier: Apache-2.0
"""The mutation run itself, on a small repository: what tests notice is killed, what nothing can notice survives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import mutants, mutate

HERE = Path(__file__).parent

SOURCE = '''"""Planted."""

from myhdl import always, block


def limited(x, high):
    return high if x >= high else x


@block
def counter(clk, q):
    @always(clk.posedge)
    def step():
        q.next = q + 3

    return step
'''

TESTS = """from myhdl import Signal, intbv, delay, instance, block
from hls.planted import counter, limited


def test_limit():
    assert [limited(x, 2) for x in range(5)] == [0, 1, 2, 2, 2]


def test_counter():
    clk, q, seen = Signal(bool(0)), Signal(intbv(0)[8:]), []

    @block
    def bench():
        @instance
        def ticks():
            for _ in range(4):
                yield delay(1)
                clk.next = not clk
                seen.append(int(q))

        return ticks, counter(clk, q)

    bench().run_sim(quiet=1)
    assert seen == [0, 3, 3, 6]
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "hls").mkdir()
    (tmp_path / "hls" / "planted.py").write_text(SOURCE)
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("conftest.py", "slices.py", "mutate.py", "mutants.py"):
        shutil.copy(HERE / name, tests / name)
    (tests / "test_planted.py").write_text(TESTS)
    (tests / "mutants_allowed.hjson").write_text("[]")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def run(repository, *arguments):
    command = [sys.executable, "-m", "tests.mutate", "--json", "counts.json", *arguments]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((repository / "counts.json").read_text()), done.stdout


@pytest.mark.parametrize("only, in_hardware", [(">=", 0), pytest.param("", 2, marks=pytest.mark.slow)])
def test_planted_mutants_are_killed_and_an_equivalent_one_survives(only, in_hardware, repository):
    counts, _ = run(repository, "--only", only)
    assert (counts["hardware"]["killed"], counts["other"]["killed"]) == (in_hardware, 1)
    (survivor,) = counts["survivors"]
    assert survivor["before"] == "return high if x >= high else x"
    assert survivor["after"] == "return high if x > high else x"
    entry = {key: survivor[key] for key in ("file", "before", "after")} | {"reason": "both sides are the same number"}
    (repository / "tests" / "mutants_allowed.hjson").write_text(json.dumps([entry]))
    counts, said = run(repository, "--only", only)  # from what is stored
    assert counts["all"] | {"survived": 0, "equivalent": 1, "killed": in_hardware + 1} == counts["all"]
    assert "left" not in said and "no such mutant" not in said


def test_every_kind_of_change():
    source = b"""
@always_comb
def f():
    if a < 2 and not b:
        c.next = 1 << d  # a < 2
x = Signal(intbv(0)[4:])
y: int = -3 if z is not None else (u) + (v)
"""
    found = mutants.find("hls/f.py", source)
    after = {line for m in found for line in m.apply(source).decode().splitlines()} - set(source.decode().splitlines())
    assert after == {
        "    if a <= 2 and not b:",
        "    if a < 3 and not b:",
        "    if a < 1 and not b:",
        "    if a < 0 and not b:",
        "    if a < 2 or not b:",
        "    if a < 2 and (b):",
        "    if not (a < 2 and not b):",
        "        c.next = 2 << d  # a < 2",
        "        c.next = 0 << d  # a < 2",
        "        c.next = 1 >> d  # a < 2",
        "x = Signal(intbv(0)[5:])",
        "x = Signal(intbv(0)[3:])",
        "x = Signal(intbv(0)[0:])",
        "y: int = -4 if z is not None else (u) + (v)",
        "y: int = -2 if z is not None else (u) + (v)",
        "y: int = -0 if z is not None else (u) + (v)",
        "y: int = -3 if z is None else (u) + (v)",
        "y: int = -3 if not (z is not None) else (u) + (v)",
        "y: int = -3 if z is not None else (u) - (v)",
    }
    assert {m.before for m in found if m.rtl} == {"if a < 2 and not b:", "c.next = 1 << d # a < 2"}


def test_the_sample_stays_when_lines_move():
    source = "\n".join(f"def f{i}(x):\n    return x + {i + 5}" for i in range(60)).encode()
    before = mutants.sample(mutants.find("hls/f.py", source), 20, 1)
    after = mutants.sample(mutants.find("hls/f.py", b"import math\n\n\n" + source), 20, 1)
    assert len(before) == 10 and [m.name for m in before] == [m.name for m in after]
    assert [m.name for m in mutants.sample(mutants.find("hls/f.py", source), 20, 2)] != [m.name for m in before]


def test_known_equivalent_mutants_are_of_the_sources_as_they_are():
    known = mutate.Allowed().reasons.keys()
    files = {file for file, _, _ in known}
    found = [m for file in files for m in mutants.find(file, (mutate.ROOT / file).read_bytes())]
    assert known <= {(m.file, m.before, m.after) for m in found}


def test_every_mutated_file_has_a_test_of_its_own_near():
    files = {path for pattern in mutate.MUTATED for path in mutate.ROOT.glob(pattern) if path.name != "__init__.py"}
    near = {
        path: {Path(test).stem for test in mutate.nearest(path.relative_to(mutate.ROOT).as_posix())} for path in files
    }
    assert len(files) > 80
    assert [path for path, tests in near.items() if not tests - {"test_generated_verilog"}] == []
    control = near[mutate.ROOT / "hls" / "descriptor" / "control" / "comparisons.py"]
    assert "test_control" in control and "test_comparisons" not in control
