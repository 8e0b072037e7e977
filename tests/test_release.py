# SPDX-License-Identifier: Apache-2.0
"""What a release carries: its version in one place, how to cite it, licences, a bill of materials."""

import datetime
import json
import re
import subprocess
import sys
from configparser import ConfigParser

import pytest
import yaml

from gen.documents.licences import FILE, licence, page
from hls import SPDX, __version__
from hls.bus import head
from hls.descriptor.interface import regmap
from hls.streaming import registers
from tests.house import ROOT
from xheep_integration.core import core_file

SETUP = ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_changelog_and_citation_say_the_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = re.fullmatch(r"([\d.]+) \((\d{4}-\d\d-\d\d)\)", headings[1])
    assert headings[0] == "Unreleased" and released
    assert released.groups() == (__version__, CITATION["date-released"]) and CITATION["version"] == __version__
    datetime.date.fromisoformat(CITATION["date-released"])


def test_citation_has_what_its_format_asks_for():
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert CITATION["license"] == SETUP["metadata"]["license"] == SPDX.split()[-1]
    assert all(isinstance(author.get("name"), str) for author in CITATION["authors"])


def test_licence_stands_where_both_conventions_look():
    assert (ROOT / "LICENSE").read_text() == (ROOT / "LICENSES" / "Apache-2.0.txt").read_text()


@pytest.mark.parametrize(
    "text",
    [
        head.c_header(),
        regmap.c_header(),
        regmap.register_hjson(),
        registers.c_header(),
        core_file([], version="1", top=""),
    ],
)
def test_generated_files_of_the_hardware_say_their_licence(text):
    assert SPDX in "".join(text.splitlines()[:2])


def test_document_of_licences_is_up_to_date():
    assert FILE.read_text() == page()


def test_licences_are_read_in_all_three_forms():
    assert licence("click") == "BSD-3-Clause"  # an expression
    assert licence("hjson").startswith("MIT License")  # classifiers
    assert licence("torchao") == "not said in its metadata"


@pytest.mark.slow
def test_bill_of_materials_has_every_pin(tmp_path):
    """As `make sbom` writes it."""
    file = tmp_path / "sbom.json"
    tool = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of", "JSON"]
    subprocess.run([*tool, "-o", str(file), sys.executable], check=True, capture_output=True)
    found = {c["name"].lower().replace("_", "-"): c["version"] for c in json.loads(file.read_text())["components"]}
    pins = re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", SETUP["options"]["install_requires"], re.M)
    assert len(pins) > 10 and all(found[name].split("+")[0] == version for name, version in pins)
