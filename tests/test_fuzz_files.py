# SPDX-License-Identifier: Apache-2.0
"""A part of `make fuzz-files`, and that it would notice."""

import os
from collections import Counter

import pytest
from fuzz_files import ACCEPTED, FAILED, KINDS, REFUSED, attempt, corpus_folder, fuzz, load_corpus, mutated, table

from hls.errors import HeepgenError

CASES = 120


def test_damaged_files_are_accepted_or_refused_in_a_sentence(tmp_path):
    counts = fuzz(tmp_path, 3, CASES)
    texts = "\n".join(path.read_text()[:3000] for path in tmp_path.glob("*.txt"))
    assert {outcome for _, outcome in counts} == {ACCEPTED, REFUSED}, f"{table(counts)}\n{texts}"
    assert sum(counts.values()) == CASES
    assert all(sum(counts[kind, o] for o in (ACCEPTED, REFUSED)) == CASES // len(KINDS) for kind in KINDS)
    assert fuzz(tmp_path, 3, CASES) == counts  # nothing is left to do
    contents = load_corpus(corpus_folder(tmp_path))
    assert mutated(contents, 3, 7) == mutated(contents, 3, 7) != mutated(contents, 4, 7)
    changed = Counter(mutated(contents, 3, i)[1] in contents[KINDS[i % len(KINDS)]] for i in range(CASES))
    assert changed[True] < CASES // 5


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), RecursionError(), MemoryError(), SystemExit(1)])
def test_other_errors_are_failures(error):
    def read():
        raise error

    outcome, text = attempt(read)
    assert outcome == FAILED and type(error).__name__ in text


def test_sentences_are_on_one_line_and_not_endless():
    def read():
        raise HeepgenError("a\nb" + "\x1b" * 5000)

    outcome, text = attempt(read)
    assert outcome == REFUSED and "\n" not in text and "\x1b" not in text and len(text) <= 2000


def test_what_is_written_elsewhere_is_noticed(tmp_path):
    """In a process of its own: an audit hook stays."""
    read, write = os.pipe()
    if os.fork() == 0:
        from fuzz_files import _watched

        (tmp_path / "in").mkdir()
        seen = _watched(tmp_path / "in")
        (tmp_path / "in" / "file").write_text("")
        inside = len(seen)
        (tmp_path / "out").write_text("")
        os.system("true")
        os.write(write, f"{inside} {len(seen)}".encode())
        os._exit(0)
    os.wait()
    assert os.read(read, 100) == b"0 2"
