# SPDX-License-Identifier: Apache-2.0
"""Configuration of the accelerator and of the system around it.

The fields of `Config` are the only place where names, defaults and ranges are written down: the file reader, the
checks, the messages and the documentation table all come from them, by way of `OPTIONS`.
"""

import difflib
import hashlib
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import hjson

from hls.errors import HeepgenError
from hls.input import read_text
from hls.keywords import KEYWORDS

INTERFACE_VERSION = 2
"""Of registers and descriptor."""

LARGEST_FILE = 2**20
"""Bytes of a configuration."""

ARITHMETICS = ("aligned", "fma")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class Option:
    """One option of the file: dotted `key`, `Config` attribute, default, and what values it may take."""

    key: str
    attribute: str
    default: Any
    allowed: str
    accepts: Callable[[Any], bool]
    meaning: str
    in_hash: bool = False

    def shown(self, value: Any) -> str:
        """`value` as it is written in the file."""
        return _shown(value)


def _integer(low: int, high: int) -> tuple[str, Callable[[Any], bool]]:
    return f"an integer from {low} to {high}", lambda v: _is_int(v) and low <= v <= high


def _power(low: int, high: int) -> tuple[str, Callable[[Any], bool]]:
    return (f"a power of two from {low} to {high}", lambda v: _is_int(v) and low <= v <= high and _is_power_of_two(v))


SLAVE_FIRST, SLAVE_LAST, SLAVE_ALIGN = 0xF0000000, 0xF0FFF000, 0x1000

_SIZE = "systolic_array.size"  # the predecessor's one field: a square array


def _option(default: Any, allowed: str, accepts: Callable[[Any], bool], meaning: str, **facts: Any) -> Any:
    """A field of `Config` with what `Option` says of it; `section` of the file, none for the top."""
    return field(default=default, metadata={"allowed": allowed, "accepts": accepts, "meaning": meaning, **facts})


@dataclass(frozen=True)
class Config:
    """Validated configuration; raises `HeepgenError` naming the option, the value and the allowed range.

    An option of a section is called in the file as here, without the section's name if it begins with that.
    """

    rows: int = _option(
        8,
        *_integer(1, 32),
        "rows R of the array: reduction lanes, activations read per cycle",
        section="systolic_array",
        in_hash=True,
    )
    cols: int = _option(
        8,
        *_integer(1, 32),
        "columns C of the array: output channels computed at once",
        section="systolic_array",
        in_hash=True,
    )
    arithmetic: str = _option(
        "aligned",
        '"aligned" or "fma"',
        lambda v: v in ARITHMETICS,
        "processing element: block-aligned integer sums, or an IEEE-754 fused multiply-add each",
        section="systolic_array",
        in_hash=True,
    )
    ports: int = _option(2, *_integer(1, 4), "OBI master ports, one 32-bit word per cycle each", in_hash=True)
    activation_words: int = _option(
        8192, *_power(256, 65536), "activation buffer, FP32 words", section="buffers", in_hash=True
    )
    weight_bytes: int = _option(
        4096, *_power(256, 65536), "weight buffer, bytes (one INT8 weight each)", section="buffers", in_hash=True
    )
    accumulator_entries: int = _option(
        64,
        *_power(16, 1024),
        "entries of each of the two accumulator banks; an entry is C FP32 lanes",
        section="buffers",
        in_hash=True,
    )
    scratchpad_words: int = _option(
        4096,
        "0, or a power of two from 256 to 65536",
        lambda v: _is_int(v) and (v == 0 or 256 <= v <= 65536 and _is_power_of_two(v)),
        "scratchpad for tensors between layers, FP32 words; 0 leaves it out",
        section="buffers",
        in_hash=True,
    )
    memory_banks: int = _option(4, *_integer(2, 64), "contiguous RAM banks", section="memory")
    memory_banks_interleaved: tuple[int, ...] = _option(
        (8, 4),
        "a list of group sizes, each a power of two from 2 to 64",
        lambda v: isinstance(v, tuple) and all(_is_int(n) and 2 <= n <= 64 and _is_power_of_two(n) for n in v),
        "groups of word-interleaved RAM banks, after the contiguous ones",
        section="memory",
    )
    bank_kib: int = _option(32, *_power(4, 256), "size of one RAM bank, KiB", section="memory")
    slave_base: int = _option(
        SLAVE_FIRST,
        f"a multiple of {SLAVE_ALIGN:#x} from {SLAVE_FIRST:#x} to {SLAVE_LAST:#x}",
        lambda v: _is_int(v) and SLAVE_FIRST <= v <= SLAVE_LAST and v % SLAVE_ALIGN == 0,
        "bus address of the accelerator's registers",
        section="xheep",
    )
    irq_line: int = _option(15, *_integer(0, 15), "fast interrupt line the accelerator raises", section="xheep")
    prefix: str = _option(
        "heepstor_",
        "a Verilog name (up to 64 letters, digits and underscores, first a letter; no SystemVerilog word)",
        lambda v: (
            isinstance(v, str)
            and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", v) is not None
            and v.rstrip("_") not in KEYWORDS
        ),
        "what every Verilog module's name begins with; the root is called so, without the underscore",
    )

    def __post_init__(self) -> None:
        if isinstance(self.memory_banks_interleaved, list):
            object.__setattr__(self, "memory_banks_interleaved", tuple(self.memory_banks_interleaved))
        for option in OPTIONS:
            value = getattr(self, option.attribute)
            if not option.accepts(value):
                raise HeepgenError(f"{option.key} = {_shown(value)}: must be {option.allowed}.")
        object.__setattr__(self, "prefix", f"{self.root}_")

    @classmethod
    def load(cls, path: str | Path | None = None, **overrides: Any) -> "Config":
        """Configuration from an hjson file (defaults without one); an override of None is ignored.

        Raises `HeepgenError` on an unreadable file, a syntax error (with its line), an unknown or repeated
        option (with the closest known name), or a value that is out of range.
        """
        overrides = {name: value for name, value in overrides.items() if value is not None}
        unknown = overrides.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise HeepgenError(_unknown(min(unknown), list(_BY_ATTRIBUTE), "configuration override"))
        if path is None:
            return cls(**overrides)
        try:
            from_file = cls(**_read(Path(path)))
        except HeepgenError as error:
            raise HeepgenError(f"{path}: {error}") from None
        return replace(from_file, **overrides)

    @property
    def banks(self) -> int:
        """Banks of the activation buffer: enough for any run of R reads, P writes and C lanes."""
        return 1 << (max(self.rows, self.ports, self.cols) - 1).bit_length()

    @property
    def diagonal(self) -> int:
        """Channels per cycle in diagonal mode (depthwise, pooling)."""
        return min(self.rows, self.cols)

    @property
    def bank_bytes(self) -> int:
        """Of one RAM bank."""
        return self.bank_kib * 1024

    @property
    def contiguous_bytes(self) -> int:
        """Of the contiguous banks, which start at 0; interleaved ones follow."""
        return self.memory_banks * self.bank_bytes

    @property
    def ram_bytes(self) -> int:
        """Of all banks."""
        return self.contiguous_bytes + sum(self.memory_banks_interleaved) * self.bank_bytes

    @property
    def load_rows(self) -> int:
        """Rows of weights entering the array per cycle."""
        return min(self.rows, max(1, 4 * self.ports // self.cols))

    @property
    def root(self) -> str:
        """Name of the root module; those of the others begin with it and an underscore."""
        return self.prefix.rstrip("_")

    @property
    def hash(self) -> int:
        """32 bits that differ when the accelerator differs: firmware compares them at start."""
        text = f"heepstor {INTERFACE_VERSION} " + " ".join(
            f"{o.key}={getattr(self, o.attribute)}" for o in OPTIONS if o.in_hash
        )
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _described(own: Field[Any]) -> Option:
    facts = dict(own.metadata)
    section = facts.pop("section", "")
    key = f"{section}.{own.name.removeprefix(section + '_')}" if section else own.name
    return Option(key, own.name, own.default, **facts)


OPTIONS = tuple(_described(own) for own in fields(Config))
_BY_ATTRIBUTE = {o.attribute: o for o in OPTIONS}
_BY_KEY = {o.key: o for o in OPTIONS}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return _shortened(str(list(value)))
    return _shortened(f'"{value}"' if isinstance(value, str) else str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unknown(name: str, known: list[str], what: str) -> str:
    name = _shortened(name)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not close:  # the right name in the wrong section
        leaf = name.rsplit(".", 1)[-1]
        close = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
    return f"unknown {what} {name}; {hint}"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = {}
    for name, value in pairs:
        if name in result:
            raise HeepgenError(f"option {_shortened(name)} is given twice; keep one of them.")
        result[name] = value
    return result


def _number(value: Any) -> Any:
    """hjson has no hexadecimal numbers and reads 0xF0000000 as a string."""
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            return value
    return value


def _flatten(tree: dict[str, Any], sections: set[str], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if key in sections:
            if not isinstance(value, dict):
                raise HeepgenError(
                    f"{key} = {_shown(value)}: must be a section in braces, "
                    f"such as {key}: {{ {_members(key)[0]}: ... }}."
                )
            flat |= _flatten(value, sections, key + ".")
        else:
            flat[key] = value
    return flat


def _members(section: str) -> list[str]:
    return [key.split(".", 1)[1] for key in _BY_KEY if key.startswith(section + ".")]


def _read(path: Path) -> dict[str, Any]:
    """Attribute values given in the file at `path`."""
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
        raise HeepgenError(f"must hold named options such as systolic_array: {{ rows: 8 }}, not {_shown(tree)}.")
    return _attributes(tree)


def _attributes(tree: dict[str, Any]) -> dict[str, Any]:
    sections = {key.split(".")[0] for key in _BY_KEY if "." in key}
    flat = _flatten(tree, sections)
    if _SIZE in flat:
        size = flat.pop(_SIZE)
        square = ("systolic_array.rows", "systolic_array.cols")
        if any(key in flat for key in square):
            raise HeepgenError(f"{_SIZE} already sets rows and cols; give either size, or rows and cols.")
        if not _BY_KEY[square[0]].accepts(size):
            raise HeepgenError(f"{_SIZE} = {_shown(size)}: must be {_BY_KEY[square[0]].allowed}.")
        flat |= dict.fromkeys(square, size)
    values = {}
    for key, value in flat.items():
        if key not in _BY_KEY:
            raise HeepgenError(_unknown(key, list(_BY_KEY), "option"))
        value = tuple(value) if isinstance(value, list) else _number(value)
        values[_BY_KEY[key].attribute] = value
    return values
