# SPDX-License-Identifier: Apache-2.0
"""Templates of pages: one style, and how numbers and names are written in all of them."""

from pathlib import Path
from typing import Any

import jinja2

from hls import __version__
from hls.errors import printable

FOLDER = Path(__file__).parent
"""Where what all pages share lies: base.html.j2 and macros.html.j2."""


def render_page(template: Path, **values: Any) -> str:
    """HTML of a template that extends base.html.j2."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"px": _pixels, "count": lambda value: f"{value:,}", "short": _short, "number": _number}
    return environment.get_template(template.name).render(version=__version__, **values)


def _pixels(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _short(text: str, length: int) -> str:
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def _number(text: str) -> str:
    """A shown number as scripts read it; empty for what is none."""
    plain = text.replace(",", "")
    try:
        float(plain)
    except ValueError:
        return ""
    return plain
