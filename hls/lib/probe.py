# SPDX-License-Identifier: Apache-2.0
"""What an accelerator is seen to do while it is simulated: engines, and the signals that tell what each is at."""

from dataclasses import dataclass

WORK, STALL, WAIT = KINDS = ("work", "stall", "wait")
"""Kinds of states: something moves; a vector, a beat or a request is held up; nothing is there to do yet."""


def signal_of(condition: str) -> str:
    """The signal that a condition asks about."""
    return condition.removeprefix("!")


@dataclass(frozen=True)
class State:
    """A state and the conditions that all hold in it: `instance.signal`, which is not 0, or `!instance.signal`, which
    is. The instance is one of the root module, the signal one of its module, of at most 32 bits."""

    name: str
    kind: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What the cycles of an engine's first state are divided into: a part ends with a cycle in which `last` holds, or
    the one before a cycle in which `first` does."""

    name: str
    first: str = ""
    last: str = ""


@dataclass(frozen=True)
class Engine:
    """A part of the accelerator that does one thing at a time: in every cycle the first of `states` that holds.

    start: signal of the pulse with which its next descriptor begins, `delay` cycles later; "" for an engine that knows
    of none.
    """

    name: str
    states: tuple[State, ...]
    start: str = ""
    delay: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def signals(self) -> tuple[str, ...]:
        """Every signal that it is seen by."""
        conditions = [c for state in self.states for c in state.conditions]
        marks = [mark for part in self.parts for mark in (part.first, part.last)]
        return tuple(dict.fromkeys(signal_of(c) for c in (*conditions, *marks, self.start) if c))
