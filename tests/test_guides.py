# SPDX-License-Identifier: Apache-2.0
"""What the contributor's guide and the glossary name is there."""

import re

import pytest

from tests.house import ROOT

GUIDES = ("CONTRIBUTING.md", "docs/glossary.md")


def paths(text):
    """Everything in backquotes that has a slash or a suffix and no blank, targets of links."""
    code = [word for word in re.findall(r"`([^` \n]+)`", text) if "/" in word or re.search(r"\.[a-z]+$", word)]
    return code + re.findall(r"\]\(([^)#:]+)\)", text)


def test_paths_are_found():
    assert paths("`a/b.py`, `Config`, [c](d.md), `make e/f`, `.g.toml`") == ["a/b.py", ".g.toml", "d.md"]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_path_of_a_guide_exists(guide):
    file = ROOT / guide
    named = paths(file.read_text())
    missing = [name for name in named if not (ROOT / name).exists() and not (file.parent / name).exists()]
    assert len(named) > 10 and not missing


@pytest.mark.parametrize("guide", GUIDES)
def test_every_name_of_a_guide_is_in_what_it_names(guide):
    """`NAME` stands in a source of hardware or compiler, or is a file."""
    sources = "".join(path.read_text() for room in ("hls", "firmware_gen") for path in (ROOT / room).rglob("*.py"))
    names = re.findall(r"`([A-Z][A-Z_a-z]+)`", (ROOT / guide).read_text())
    assert not [name for name in names if name not in sources and not (ROOT / name).exists()]


def test_glossary_has_one_row_a_word():
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/glossary.md").read_text(), flags=re.M)
    words = [row.lower() for row in rows if row not in ("term", "word")]
    named = {word.partition(" (")[0] for word in words}
    assert len(words) > 40 and len(set(words)) == len(words)
    assert {"job", "piece", "part", "step", "place", "turn", "mark", "cut", "home"} <= named


def test_make_targets_of_the_guide_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    named = re.findall(r"(?:`|    )make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert named and set(named) <= set(targets)
