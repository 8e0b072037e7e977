# SPDX-License-Identifier: Apache-2.0
"""Spaces of configurations: lists of values for options, and every combination of them that is legal."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from firmware_gen.architectures.registry import find
from hls.config import AUTO, System, options, overridden
from hls.errors import HeepgenError

BUFFERS = ("activation_words", "weight_bytes", "accumulator_entries", "scratchpad_words")
"""Options that `--buffers` sets, in the order of its numbers."""

LARGEST = 1_000_000
"""Combinations; more is a mistake."""

Described = Mapping[str, Any]
"""A configuration as plain data: its `architecture`, and the options that differ from their defaults."""


def described(config: System) -> dict[str, Any]:
    """`config` as plain data, the same for equal configurations."""
    changed = {
        o.attribute: list(value) if isinstance(value := getattr(config, o.attribute), tuple) else value
        for o in options(type(config))
        if getattr(config, o.attribute) != config.usual(o.attribute)
    }
    return {"architecture": config.architecture, **changed}


def config_of(given: Described) -> System:
    """The configuration that `described` gave; raises `HeepgenError` for an unknown architecture or option."""
    changed = {name: value for name, value in given.items() if name != "architecture"}
    return overridden(find(given["architecture"]).config(), **changed)


def integers(text: str, option: str) -> tuple[int, ...]:
    """`4`, `1,2,8`, `1..32`, `4..32..4`, or several of these with commas: ascending, each once."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+)(?:\.\.(\d+))?)?\s*", part)
        if not match:
            raise HeepgenError(f"{option} {text}: {part!r} is no number and no range; write 8, 4,8,16 or 1..32.")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            raise HeepgenError(f"{option} {text}: {part} is empty; write the smaller number first, and a step from 1.")
        if (last - first) // step >= LARGEST:
            raise HeepgenError(f"{option} {text}: {part} are more than {LARGEST:,} values.")
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def words(text: str, option: str, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Comma-separated words, each once, in order; of those `known`, if some are."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for word in found:
        if not word or known and word not in known:
            what = f"{word!r} is not one of {', '.join(known)}" if known else "an entry is empty"
            raise HeepgenError(f"{option} {text}: {what}.")
    return found


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Comma-separated numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise HeepgenError(f"{option} {text}: write numbers with commas, such as 2,1.") from None


def switches(text: str, option: str) -> tuple[bool, ...]:
    """`on`, `off` or both."""
    return tuple(word == "on" for word in words(text, option, ("on", "off")))


Buffers = tuple[int | str, ...] | Fraction
"""Sizes for BUFFERS, or a factor for those of the configuration."""


def buffers(text: str, option: str) -> tuple[Buffers, ...]:
    """`1/2,1,2`: factors for all buffers of the configuration; `8192:4096:64:4096`: activation words, weight bytes,
    accumulator entries, scratchpad words, which may be auto."""
    found: list[Buffers] = []
    for part in words(text, option):
        if re.fullmatch(rf"\d+(:\d+){{2}}:(\d+|{AUTO})", part):
            found.append(tuple(size if size == AUTO else int(size) for size in part.split(":")))
        elif re.fullmatch(r"\d+(/\d+)?", part) and not re.fullmatch(r"0+(/.*)?|.*/0+", part):
            found.append(Fraction(part))
        else:
            raise HeepgenError(
                f"{option} {text}: {part!r} is no factor and no set of sizes; write 1/2,1,2, or activation words, "
                "weight bytes, accumulator entries and scratchpad words as in 8192:4096:64:4096."
            )
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Space:
    """Combinations of `values`, by option, on top of each of the configurations `bases`, one for an architecture;
    `buffers` as of the function of that name. An architecture that has not an option is the same for all values of it.
    """

    bases: tuple[System, ...]
    values: Mapping[str, tuple[Any, ...]]
    buffers: tuple[Buffers, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.values, *(BUFFERS[:1] if self.buffers else ())):
            if not any(hasattr(base, name) for base in self.bases):
                known = ", ".join(base.architecture for base in self.bases)
                raise HeepgenError(f"none of the architectures {known} has an option {name}: leave it out.")
        if len(self) > LARGEST:
            raise HeepgenError(f"{len(self):,} combinations are too many, {LARGEST:,} is the most: narrow the ranges.")

    def _axes(self, base: System) -> dict[str, tuple[Any, ...]]:
        axes = {name: own for name, own in self.values.items() if hasattr(base, name)}
        return axes | ({"buffers": self.buffers} if self.buffers and hasattr(base, BUFFERS[0]) else {})

    def __len__(self) -> int:
        """Combinations, illegal ones included."""
        total = 0
        for base in self.bases:
            count = 1
            for own in self._axes(base).values():
                count *= len(own)
            total += count
        return total

    def combinations(self) -> "Combinations":
        """Every legal configuration, once; raises `HeepgenError` where there is none."""
        refused = Counter[str]()
        found = dict.fromkeys(config for base in self.bases for config in self._of(base, refused))
        if not found:
            raise HeepgenError(f"no combination of the options is legal: {next(iter(refused))}")
        return Combinations(tuple(found), refused)

    def _of(self, base: System, refused: Counter[str]) -> Iterator[System]:
        axes = self._axes(base)
        for combination in itertools.product(*axes.values()):
            chosen = dict(zip(axes, combination, strict=True))
            try:
                sizes = chosen.pop("buffers", None)
                config = overridden(base, **chosen)
                yield overridden(config, **_sizes(config, sizes))
            except HeepgenError as error:
                refused[str(error)] += 1


@dataclass(frozen=True)
class Combinations:
    """Legal configurations, and how many are not, by reason."""

    configs: tuple[System, ...]
    refused: Counter[str] = field(default_factory=Counter)


def _sizes(base: System, chosen: Buffers | None) -> dict[str, int | str]:
    if chosen is None:
        return {}
    if isinstance(chosen, tuple):
        return dict(zip(BUFFERS, chosen, strict=True))
    scaled = {name: getattr(base, name) * chosen for name in BUFFERS}
    return {name: int(size) if size.denominator == 1 else size for name, size in scaled.items()}
