"""Generated folders appear whole or not at all, and nothing of the user's is ever lost."""

import pytest

from hls.errors import HeepgenError
from hls.output import generated_folder, marker


def fill(folder, text="new", kind="accelerator", **options):
    with generated_folder(folder, kind, **options) as work:
        (work / "file").write_text(text)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_folder_appears_with_its_note(tmp_path):
    fill(tmp_path / "a" / "out", note={"config_hash": "0x1"})
    out = tmp_path / "a" / "out"
    assert (out / "file").read_text() == "new"
    assert marker(out) == {"kind": "accelerator", "config_hash": "0x1"}
    assert names(tmp_path / "a") == ["out"]


def test_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), generated_folder(tmp_path / "out", "accelerator") as work:
        (work / "file").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_failure_leaves_the_previous_result(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt), generated_folder(tmp_path / "out", "accelerator") as work:
        (work / "file").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_own_folder_is_replaced_whole(tmp_path):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "stale").write_text("")
    fill(tmp_path / "out")
    assert names(tmp_path / "out") == [".heepgen.json", "file"]
    assert names(tmp_path) == ["out"]


def test_own_folder_is_kept_when_overwriting_is_off(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(HeepgenError, match="already holds a generated accelerator"):
        fill(tmp_path / "out", overwrite=False)
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    assert (tmp_path / "out" / "file").exists()


def test_foreign_folder_is_refused_then_moved_aside(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    with pytest.raises(HeepgenError, match="not written by heepgen.*--force"):
        fill(out)
    fill(out, force=True)
    assert names(out) == [".heepgen.json", "file"]
    assert (tmp_path / "out.old" / "thesis.txt").read_text() == "years"


def test_force_never_replaces_what_was_moved_aside_before(tmp_path):
    for name in ("out", "out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text(name)
    with pytest.raises(HeepgenError, match="cannot be moved aside"):
        fill(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "out"
    assert (tmp_path / "out.old" / "thesis.txt").read_text() == "out.old"


def test_another_kind_of_output_is_not_replaced(tmp_path):
    fill(tmp_path / "out", kind="application")
    with pytest.raises(HeepgenError, match="holds a generated application, not accelerator"):
        fill(tmp_path / "out")


def test_file_and_current_folder_are_refused(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("")
    with pytest.raises(HeepgenError, match="is a file"):
        fill(tmp_path / "out")
    inside = tmp_path / "home" / "project"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with pytest.raises(HeepgenError, match="current folder"):
        fill(tmp_path / "home", force=True)


def test_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HeepgenError, match="cannot write"):
        fill(tmp_path / "file" / "out")
