# SPDX-License-Identifier: Apache-2.0
"""Generated folders appear whole or not at all, and nothing of the user's is ever lost."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading

import pytest

from hls import disk, output
from hls.errors import HeepgenError
from hls.output import Link, check_file, file_to_fill, generated_folder, marker, write_file, write_files


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
    with generated_folder(tmp_path / "out", "accelerator") as work:
        (work / "stale").write_text("")
    fill(tmp_path / "out")
    assert names(tmp_path / "out") == [".heepgen.json", "file"]
    assert names(tmp_path) == ["out"]


def test_what_was_added_or_edited_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    for name, why in (("sub/notes.txt", "did not write"), ("file", "was changed")):
        fill(out, "old")
        (out / "sub").mkdir(exist_ok=True)
        (out / name).write_text("mine")
        with pytest.raises(HeepgenError, match=f"holds {name}, which.*{why}.*--force"):
            fill(out)
        assert (out / name).read_text() == "mine"
        assert names(tmp_path) == ["out"]
        fill(out, force=True)
        assert (tmp_path / "out.old" / name).read_text() == "mine"
        shutil.rmtree(tmp_path / "out.old")


def test_what_is_edited_meanwhile_is_not_replaced(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(HeepgenError, match="changed"), generated_folder(tmp_path / "out", "accelerator"):
        (tmp_path / "out" / "file").write_text("mine")
    assert (tmp_path / "out" / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "accelerator"}',
        '{"kind": "accelerator", "files": 3}',
        "[]",
        "[" * 9999,
        '{"kind": ["accelerator"], "files": {"file": "x"}}',
        "\xff",
    ],
)
def test_a_marker_that_notes_no_checksums_makes_nothing_ours(tmp_path, text):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".heepgen.json").write_text(text)
    (out / "file").write_text("mine")
    with pytest.raises(HeepgenError):
        fill(out)
    assert (out / "file").read_text() == "mine"


def test_a_symbolic_link_to_a_folder_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("later")
    for link in ("link", "link", "dangling"):
        fill(tmp_path / link)
        assert (tmp_path / link).is_symlink()
    assert names(tmp_path / "real") == names(tmp_path / "later") == [".heepgen.json", "file"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HeepgenError, match="loop cannot be written"):
        fill(tmp_path / "loop")


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


# Files among others


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".heepgen.json"
    }


def test_files_are_written_among_others_and_stale_ones_removed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    write_files(tmp_path, "program", {"main.cpp": "1", "old/a.hpp": "1", "link": Link("mine.txt")}, note={"n": 1})
    assert marker(tmp_path) == {"kind": "program", "n": 1}
    assert contents(tmp_path) == {"mine.txt": "mine", "main.cpp": "1", "old/a.hpp": "1", "link": "mine"}
    write_files(tmp_path, "program", {"main.cpp": "2"})
    assert names(tmp_path) == [".heepgen.json", "main.cpp", "mine.txt"]
    assert (tmp_path / "main.cpp").read_text() == "2"


@pytest.mark.parametrize("before", ["nothing", "marker"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_of_the_user_is_in_the_way(tmp_path, before, overwrite):
    if before == "marker":
        write_files(tmp_path, "program", {"main.cpp": "1"})
    (tmp_path / "main.cpp").write_text("mine")
    with pytest.raises(HeepgenError):
        write_files(tmp_path, "program", {"main.cpp": "2", "model.cpp": "2"}, overwrite=overwrite)
    assert contents(tmp_path) == {"main.cpp": "mine"}
    if overwrite:
        write_files(tmp_path, "program", {"main.cpp": "2"}, force=True)
        assert contents(tmp_path) == {"main.cpp": "2", "main.cpp.old": "mine"}


def test_links_and_folders_of_the_user_are_in_the_way(tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    out = tmp_path / "out"
    for make in (lambda p: p.symlink_to(away), lambda p: p.write_text("mine")):
        out.mkdir()
        make(out / "runtime")
        with pytest.raises(HeepgenError, match="runtime, which"):
            write_files(out, "program", {"runtime/a.cpp": "1"})
        assert not list(away.iterdir()) and os.path.lexists(out / "runtime")
        (out / "runtime").unlink()
        out.rmdir()


def test_files_that_were_being_replaced_when_heepgen_was_stopped_are_still_ours(tmp_path, monkeypatch):
    write_files(tmp_path, "program", {"a": "1", "b": "1", "c": "1"})
    replace, done = os.replace, []

    def stopped(source, target):
        replace(source, target)
        done.append(os.path.basename(target))
        if done[-1] == "a":
            raise KeyboardInterrupt

    monkeypatch.setattr(output.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, "program", {"a": "2", "b": "2"})
    monkeypatch.undo()
    assert names(tmp_path) == [".heepgen.json", "a", "b", "c"]
    write_files(tmp_path, "program", {"a": "3", "b": "3"})
    assert contents(tmp_path) == {"a": "3", "b": "3"}


# Files that the user named


@pytest.fixture
def reading(tmp_path):
    """A FIFO, and what a reader gets from it."""
    path, got = tmp_path / "fifo", []
    os.mkfifo(path)
    thread = threading.Thread(target=lambda: got.append(path.read_text()), daemon=True)
    thread.start()
    yield path, lambda: thread.join(10) or got
    thread.join(1)


def test_a_fifo_is_written_to(reading):
    path, got = reading
    write_file(path, "{}", "--json")
    assert got() == ["{}"]
    assert path.is_fifo()


def test_a_fifo_that_nobody_reads_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "READER_SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HeepgenError, match="--json .*fifo.*nobody read"):
        write_file(tmp_path / "fifo", "{}", "--json")
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("write", ["whole", "filled"])
def test_links_stay_and_the_file_behind_is_replaced(tmp_path, write):
    def put(path):
        if write == "whole":
            write_file(path, "{2}", "--json")
        else:
            with file_to_fill(path, "--json") as part:
                part.write_text("{2}")

    (tmp_path / "real").write_text("{1}")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("new")
    put(tmp_path / "again")
    put(tmp_path / "dangling")
    assert names(tmp_path) == ["again", "dangling", "link", "new", "real"]
    assert all((tmp_path / name).is_symlink() for name in ("again", "dangling", "link"))
    assert (tmp_path / "real").read_text() == (tmp_path / "new").read_text() == "{2}"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_an_open_descriptor_is_written_to_where_it_stands(tmp_path):
    with open(tmp_path / "file", "w+b", buffering=0) as stream:
        stream.write(b"before ")
        (tmp_path / "stdout").symlink_to(f"/dev/fd/{stream.fileno()}")
        write_file(f"/proc/self/fd/{stream.fileno()}", "[1]", "--json")
        write_file(tmp_path / "stdout", "[2]", "--json")
    assert (tmp_path / "file").read_text() == "before [1][2]"
    assert names(tmp_path) == ["file", "stdout"]


def test_devices_are_written_to(tmp_path):
    write_file("/dev/null", "{}", "--json")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(HeepgenError, match="/dev/full.*No space left"):
        write_file("/dev/full", "{}", "--json")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    with file_to_fill("/dev/null", "--vcd") as part:
        part.write_text("$")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: p.mkdir(), "it is a folder"),
        (lambda p: p.write_text("years of work"), "holds something else"),
        (lambda p: p.symlink_to(p), "symbolic links"),
        (lambda p: (p.parent / "full").symlink_to(p) or p.write_text("  x"), "holds something else"),
    ],
)
def test_what_may_not_be_replaced_is_said_before_the_work(tmp_path, make, words):
    make(tmp_path / "it")
    before = names(tmp_path)
    for call in (check_file, lambda path, option: write_file(path, "{}", option)):
        with pytest.raises(HeepgenError, match=f"--json .*it: cannot be written: .*{words}"):
            call(tmp_path / "it", "--json")
    with pytest.raises(HeepgenError), file_to_fill(tmp_path / "it", "--json"):
        pytest.fail("too late")
    assert names(tmp_path) == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(HeepgenError, match="absent/it: cannot be written: No such file"):
        check_file(tmp_path / "absent" / "it", "--json")
    with file_to_fill(tmp_path / "new" / "it", "--vcd") as part:
        part.write_text("$")
    assert (tmp_path / "new" / "it").read_text() == "$"
    with pytest.raises(ZeroDivisionError), file_to_fill(tmp_path / "other" / "it", "--vcd"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["new"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """In a process of its own: the largest file that it may write is limited."""
    (tmp_path / "r.json").write_text("{1}")
    code = (
        f"import resource; from hls.output import *; from hls.errors import HeepgenError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        f"def tried(call):\n"
        f"    try: call()\n"
        f"    except HeepgenError as error: print(error)\n"
        f"def folder():\n"
        f"    with generated_folder({str(tmp_path / 'out')!r}, 'k') as work: fill(work, {{'a': 'x' * 20000}})\n"
        f"tried(lambda: write_file({str(tmp_path / 'r.json')!r}, '[' * 20000, '--json'))\n"
        f"tried(lambda: write_files({str(tmp_path / 'app')!r}, 'k', {{'s/b': '', 'a': 'x' * 20000}}))\n"
        f"tried(folder)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.count("File too large") == 3, done
    assert names(tmp_path) == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "{1}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(tmp_path, number):
    code = (
        "import signal, time, click; from gen.cli import _Group; from hls.output import fill, generated_folder\n"
        "from firmware_gen.architectures.contract import own_code\n"
        # as in a terminal, even where the tests run in the background, which ignores both
        "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "@click.group(cls=_Group)\n"
        "def main(): pass\n"
        "@main.command()\n"
        "def work():\n"
        "    with own_code('theirs'), generated_folder('a/out', 'k') as folder:\n"
        "        fill(folder, {'file': 'x'}); print('ready', flush=True); time.sleep(60)\n"
        "main(['work'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert b"Traceback" not in errors
    assert names(tmp_path) == []
