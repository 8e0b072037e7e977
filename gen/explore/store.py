# SPDX-License-Identifier: Apache-2.0
"""`explore.db`: every configuration that was judged, what was found, and what was asked; one SQLite file."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gen.explore.point import BITS, STAGES
from gen.explore.space import Described
from hls.errors import HeepgenError

FORM = 1
"""Of the tables; grows when they change."""

_TABLES = f"""
create table if not exists configs (number integer primary key, config text not null unique);
create table if not exists judged (
    subject text not null, number integer not null references configs, stage text not null,
    cycles integer, refused text, found text not null, primary key (subject, number, stage));
create table if not exists scores (subject text not null, kind text not null, score real not null,
    primary key (subject, kind));
create table if not exists questions (subject text primary key, asked text not null);
pragma user_version = {FORM};
"""


@dataclass(frozen=True)
class Judgement:
    """What one stage found of a configuration: cycles, or why there are none. found: plain data besides, see
    `judge.Found`."""

    number: int
    stage: str
    cycles: int | None
    refused: str | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """An open `explore.db`; one that is `read_only` has to be there, and is left as it is. Raises `HeepgenError` for a
    file that is none, or of another version of heepgen."""

    def __init__(self, path: str | Path, read_only: bool = False):
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise HeepgenError(f"{path}: there is no such file; heepgen explore writes explore.db into its folder.")
        mode = "ro" if read_only else "rwc"
        try:
            place = f"{self.path.resolve().as_uri()}?mode={mode}"
            self._db = sqlite3.connect(place, uri=True, isolation_level=None)
            (form,) = self._db.execute("pragma user_version").fetchone()
            empty = not self._db.execute("select count(*) from sqlite_master").fetchone()[0]
            if empty and read_only:
                raise HeepgenError(f"{path}: is no explore.db of heepgen; choose another file.")
            if form != FORM and not empty:
                raise HeepgenError(f"{path}: was written by another version of heepgen; choose another folder.")
            if not read_only:
                self._db.execute("pragma journal_mode = wal")
                self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise HeepgenError(f"{path}: is no explore.db of heepgen ({error}); choose another folder.") from None

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def numbers(self, configs: Iterable[Described]) -> list[int]:
        """The number of every configuration, a new one for what is new."""
        texts = [json.dumps(config, sort_keys=True) for config in configs]
        with self._at_once():
            self._db.executemany("insert or ignore into configs (config) values (?)", [(text,) for text in texts])
            known = dict(self._db.execute("select config, number from configs"))
        return [known[text] for text in texts]

    def config(self, number: int) -> Described:
        """The configuration of a number; raises `HeepgenError` for one that there is not."""
        row = self._db.execute("select config from configs where number = ?", (number,)).fetchone()
        if row is None:
            (most,) = self._db.execute("select count(*) from configs").fetchone()
            raise HeepgenError(f"{self.path} has no point {number}: it has {most:,}, counted from 1.")
        config: Described = json.loads(row[0])
        return config

    def ask(self, subject: str, asked: Mapping[str, Any]) -> None:
        """Note the last question about a subject."""
        self._db.execute("insert or replace into questions values (?, ?)", (subject, json.dumps(asked, sort_keys=True)))

    def asked(self) -> dict[str, dict[str, Any]]:
        """Questions by subject."""
        return {subject: json.loads(text) for subject, text in self._db.execute("select * from questions")}

    def add(self, subject: str, judgements: Iterable[Judgement]) -> None:
        """Keep what was found: all of it, or, where the program ends meanwhile, nothing."""
        rows = [(subject, j.number, j.stage, j.cycles, j.refused, json.dumps(j.found)) for j in judgements]
        with self._at_once():
            self._db.executemany("insert or replace into judged values (?, ?, ?, ?, ?, ?)", rows)

    def judged(self, subject: str) -> dict[str, dict[int, Judgement]]:
        """What is known about a subject: by stage and number."""
        found: dict[str, dict[int, Judgement]] = {stage: {} for stage in (*STAGES, BITS)}
        query = "select number, stage, cycles, refused, found from judged where subject = ?"
        for number, stage, cycles, refused, text in self._db.execute(query, (subject,)):
            found[stage][number] = Judgement(number, stage, cycles, refused, json.loads(text))
        return found

    def scores(self, subject: str) -> dict[str, float]:
        """Accuracies, 0 to 1, by what BITS found."""
        return dict(self._db.execute("select kind, score from scores where subject = ?", (subject,)))

    def add_score(self, subject: str, kind: str, score: float) -> None:
        self._db.execute("insert or replace into scores values (?, ?, ?)", (subject, kind, score))
