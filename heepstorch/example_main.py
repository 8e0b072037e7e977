# SPDX-License-Identifier: Apache-2.0
"""The main program that prints a network's outputs, predictions and labels beside the expected ones."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from firmware_gen.emit.literals import float_literal

TEMPLATE = Path(__file__).with_name("main.cpp.j2")
SIGNATURE = "// Written again by heepstorch unless it was edited; written by "


@dataclass(frozen=True)
class Example:
    """expected: (rows, outputs) float32; a prediction and a label for every row. accelerator: in words."""

    name: str
    accelerator: str
    expected: npt.NDArray[np.float32]
    predictions: tuple[int, ...]
    labels: tuple[int, ...]


def render(example: Example) -> str:
    """The C++ text."""
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    text: str = template.render(
        name=example.name,
        accelerator=example.accelerator,
        rows=[[float_literal(value) for value in row] for row in example.expected],
        predictions=example.predictions,
        labels=example.labels,
    )
    return text


def signed(text: str, author: str) -> str:
    """`text` behind a line by which `author_of` knows who wrote it."""
    return f"{SIGNATURE}{author} {hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def author_of(text: str) -> str | None:
    """Who signed a text; None where nobody did, or where it was edited since."""
    first, _, rest = text.partition("\n")
    author = first.removeprefix(SIGNATURE).partition(" ")[0]
    return author if text == signed(rest, author) else None
