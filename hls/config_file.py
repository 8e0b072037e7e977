# SPDX-License-Identifier: Apache-2.0
"""A configuration file as names and values, before anything is known of options, and the words for a wrong one."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hjson

from hls.errors import HeepgenError
from hls.input import read_text

LARGEST_FILE = 2**20
"""Bytes of a configuration."""


def shown(value: Any) -> str:
    """`value` as it is written in the file, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return _shortened(str(list(value)))
    return _shortened(json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value))


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """That there is no `what` called `name`, and which one may be meant; the other words of a sentence are `what`'s."""
    name, known = _shortened(name), list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not close:  # the right name in the wrong section
        leaf = name.rsplit(".", 1)[-1]
        close = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
    return f"unknown {what} {name}; {hint}"


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = {}
    for name, value in pairs:
        if name in result:
            raise HeepgenError(f"option {_shortened(name)} is given twice; keep one of them.")
        result[name] = value
    return result


def as_value(value: Any) -> Any:
    """A value of the file as an option takes it: hjson has no hexadecimal numbers and reads 0xF0000000 as a string."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            return value
    return value


def read_tree(path: Path) -> dict[str, Any]:
    """Names and values given in the file at `path`, sections as dictionaries.

    Raises `HeepgenError` for a file that cannot be read, a syntax error (with its line), and a name given twice.
    """
    try:
        text = read_text(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = (
            "it is not UTF-8 text"
            if isinstance(error, UnicodeDecodeError)
            else (getattr(error, "strerror", None) or error)
        )
        raise HeepgenError(f"the configuration cannot be read: {reason}.") from None
    try:
        tree = hjson.loads(text, object_pairs_hook=_pairs) if text.strip() else {}
    except hjson.HjsonDecodeError as error:
        reason = "a section is not closed" if "eof" in error.msg else error.msg
        raise HeepgenError(
            f"line {error.lineno}, column {error.colno}: {reason}; the file must be valid hjson."
        ) from None
    except RecursionError:
        raise HeepgenError("brackets are nested too deeply; sections are one deep.") from None
    except IndexError:  # hjson's own: it looks behind the end
        raise HeepgenError("a comment is not closed; the file must be valid hjson.") from None
    except (ValueError, OverflowError):
        raise HeepgenError("it holds a number out of every option's range.") from None
    if not isinstance(tree, dict):
        raise HeepgenError(f"must hold named options such as systolic_array: {{ rows: 8 }}, not {shown(tree)}.")
    return tree
