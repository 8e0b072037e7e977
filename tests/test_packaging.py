# SPDX-License-Identifier: Apache-2.0
"""What is installed: which Pythons, by make; a wheel, tried where nothing of the sources is near."""

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch

from hls import __version__
from tests.house import ROOT

SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FIRST, END = map(int, re.fullmatch(r">=3\.(\d+), <3\.(\d+)", SETUP["options"]["python_requires"]).groups())
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def test_documents_name_the_pythons_that_setup_allows():
    said = [version for guide in GUIDES for version in re.findall(r"Python (3\.\d+ [a-z]+ [\w.]+)", guide.read_text())]
    assert len(said) >= 3 and set(said) == {f"3.{FIRST} to 3.{END - 1}"}


PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c import sys"*) echo {version};;
  "-c import ensurepip"*) exit {without_pip};;
  "-m venv") mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo "$0" > "$4/made-by";;
  "-m pip") exit 0;;
  *) exit 9;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """A function that runs `make venv` where programs called as Python are those that it is given, by version."""
    names = ["python", "python3", *(f"python3.{minor}" for minor in range(FIRST - 2, END + 2))]

    def run(pythons, *arguments, without_pip=()):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in names:
            version = pythons.get(name)
            text = PYTHON.format(version=version, without_pip=int(name in without_pip))
            (programs / name).write_text(text if version else "#!/bin/sh\nexit 127\n")
            (programs / name).chmod(stat.S_IRWXU)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        command = ["make", "-C", str(ROOT), "venv", f"VENV={tmp_path / 'venv'}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        made = tmp_path / "venv" / "made-by"
        return done, Path(made.read_text().strip()).name if made.exists() else None

    return run


@pytest.mark.parametrize(
    "pythons, taken",
    [
        ({"python3.12": "3.12.4", "python3": "3.12.4"}, "python3.12"),
        ({"python3": "3.13.0"}, "python3"),
        ({"python": "3.14.2"}, "python"),
        ({"python3": "3.9.2", "python3.9": "3.9.2", "python3.13": "3.13.1"}, "python3.13"),
        ({"python3": f"3.{END}.0", "python": "3.11.0"}, "python"),
    ],
)
def test_make_finds_a_python_by_itself(make, pythons, taken):
    assert make(pythons)[1] == taken


def test_make_takes_the_python_that_can_make_an_environment(make):
    assert make({"python3.11": "3.11.2", "python3.13": "3.13.5"}, without_pip=["python3.11"])[1] == "python3.13"


@pytest.mark.parametrize(
    "pythons, arguments, without_pip, says",
    [
        ({"python3": "3.9.2"}, [], (), "python3 is 3.9.2"),
        ({"python3": f"3.{END}.1"}, [], (), f"python3 is 3.{END}.1"),
        ({"python3": "3.12.1", "python3.10": "3.10.1"}, ["PYTHON=python3.10"], (), "python3.10 is 3.10.1"),
        ({"python3": "2.7.18"}, [], (), "python3 is 2.7.18"),
        ({"python3": "3.11.2"}, [], ["python3"], "python3 cannot create a virtual environment"),
        ({}, [], (), f"there is none of python3.{FIRST} "),
    ],
)
def test_make_says_which_python_it_needs(make, pythons, arguments, without_pip, says):
    done, made = make(pythons, *arguments, without_pip=without_pip)
    sentence, *rest = done.stderr.splitlines()
    assert done.returncode and not made and "installing" not in done.stdout
    assert sentence.startswith(f"heepgen needs Python 3.{FIRST} to 3.{END - 1}: ") and says in sentence
    assert all(line.startswith("make") for line in rest)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with the wheel of this tree and the dependencies of ours, in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "tree" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "wheel", *options, str(folder / "tree")], check=True)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", str(venv), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    purelib = next(venv.glob("lib/python*/site-packages"))
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def command(installed):
    """A function that runs a program of the environment in the empty folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(program, *arguments):
        call = [str(installed / "venv" / "bin" / program), *arguments]
        done = subprocess.run(call, cwd=installed / "empty", capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def packages():
    """Top-level packages that users get: all but the tests and what stays in a clone."""
    return sorted(p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests", "examples"))


def test_wheel_has_every_file_of_every_package(installed):
    site = next((installed / "venv").glob("lib/python*/site-packages"))
    assert len(packages()) >= 5
    tree = installed / "tree"
    files = [p.relative_to(tree) for name in packages() for p in (tree / name).rglob("*") if p.is_file()]
    assert [str(p) for p in files if not (site / p).is_file()] == []


def test_wheel_is_what_runs(command):
    code = (
        f"import sys, importlib; names = {packages()!r}; print(sys.path, [importlib.import_module(n) for n in names])"
    )
    assert str(ROOT) + os.sep not in command("python", "-c", code).replace(sysconfig.get_path("purelib"), "")
    assert command("heepgen", "--version").split()[-1] == __version__


def test_wheel_makes_hardware_and_firmware(command, installed):
    command("heepgen", "hw", "--rows", "1", "--cols", "1", "-o", "hw")
    torch.export.save(torch.export.export(torch.nn.Linear(6, 3).eval(), (torch.ones(1, 6),)), installed / "model.pt2")
    command("heepgen", "sw", "../model.pt2", "-o", "app")
    empty = installed / "empty"
    assert (empty / "hw" / "rtl" / "heepstor.v").is_file() and (empty / "app" / "main.cpp").is_file()
