# SPDX-License-Identifier: Apache-2.0
"""Cached builds: whole or built again, whatever happened to the folder; a folder that cannot be written is said."""

import os
import shutil
import threading

import pytest

from hls.errors import HeepgenError
from sim import cache
from sim.cache import COMPLETE, build_once


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HEEPGEN_CACHE", str(tmp_path / "a b'c \u00e9"))
    return tmp_path / "a b'c \u00e9"


class Build:
    def __init__(self):
        self.times = 0

    def __call__(self, work):
        self.times += 1
        (work / "sub").mkdir()
        (work / "sub" / "program").write_bytes(b"x" * 1000)
        (work / "sub" / "program").chmod(0o755)
        (work / "empty").write_bytes(b"")


def get(build, fresh=True):
    if fresh:  # as another process would
        cache.checked.clear()
    return build_once("kind", ["parts"], build)


def test_built_once(root):
    build = Build()
    assert {get(build) for _ in range(3)} == {next(root.glob("kind-*[!k]"))}
    assert build.times == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "sub" / "program").write_bytes(b""),
        lambda p: (p / "sub" / "program").write_bytes(b"x" * 999 + b"\0"),
        lambda p: (p / "empty").unlink(),
        lambda p: (p / "more").write_bytes(b""),
        lambda p: (p / COMPLETE).write_bytes(b""),
        lambda p: (p / COMPLETE).write_text("[" * 100_000),
        lambda p: (p / COMPLETE).unlink(),
        lambda p: (p / "sub" / "program").chmod(0o644),
        lambda p: ((p / COMPLETE).unlink(), os.mkfifo(p / COMPLETE)),
        lambda p: ((p / COMPLETE).unlink(), (p / COMPLETE).symlink_to("/dev/zero")),
        lambda p: ((p / "empty").unlink(), os.mkfifo(p / "empty")),
    ],
)
def test_a_damaged_entry_is_built_again(root, damage):
    build = Build()
    damage(get(build))
    assert (get(build) / "sub" / "program").read_bytes() == b"x" * 1000
    assert build.times == 2
    get(build)
    assert build.times == 2
    assert len(list(root.iterdir())) == 2  # the entry and its lock


def test_keys_tell_parts_and_names_of_files_apart(tmp_path):
    files = [tmp_path / name for name in ("one", "two")]
    for path in files:
        path.write_bytes(b"content")
    parts = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], *([path] for path in files), [*files], [*files[::-1]]]
    assert len({cache.content_key(own) for own in parts}) == len(parts)
    key = cache.content_key(files)
    files[1].write_bytes(b"contents")
    assert cache.content_key(files) != key and cache.content_key(["ab", "c"]) == cache.content_key([b"ab", b"c"])


def test_an_entry_that_went_meanwhile_is_built_again(root):
    build = Build()
    shutil.rmtree(get(build))
    assert (get(build, fresh=False) / "empty").exists() and build.times == 2


def test_a_file_in_place_of_an_entry(root):
    build = Build()
    path = get(build)
    os.rename(path, root / "aside")
    path.write_text("")
    assert (get(build) / "empty").exists()


def test_a_failed_build_leaves_nothing(root):
    def fails(work):
        (work / "half").write_text("")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        get(fails)
    assert [p.suffix for p in root.iterdir()] == [".lock"]
    assert get(Build()).is_dir()


def test_two_at_once_build_once(root):
    build, got = Build(), []
    threads = [threading.Thread(target=lambda: got.append(get(build, fresh=False))) for _ in range(4)]
    cache.checked.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1
    assert build.times == 1


@pytest.mark.parametrize("where", ["/dev/null/x", "/proc/x", "a file"])
def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch, where):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("HEEPGEN_CACHE", str(tmp_path / where))
    with pytest.raises(HeepgenError, match="cannot be written: .*HEEPGEN_CACHE"):
        get(Build())


def test_a_full_disk_is_said(root):
    def full(work):
        with open("/dev/full", "w") as stream:
            stream.write("x" * 100_000)

    with pytest.raises(HeepgenError, match="finished builds.*No space left.*HEEPGEN_CACHE"):
        get(full)
