# SPDX-License-Identifier: Apache-2.0
"""Configuration of an accelerator and of the system around it.

The fields of a configuration's class are the only place where names, defaults and ranges are written down: the file
reader, the checks, the messages and the documentation table all come from them, by way of `options`.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from hls.config_file import as_value, read_tree, shown, unknown
from hls.errors import HeepgenError
from hls.keywords import KEYWORDS

INTERFACE_VERSION = 10
"""Of registers and descriptor."""

ARITHMETICS = ("aligned", "fma")

FLAGS = {"rows": "--rows", "cols": "--cols", "arithmetic": "--arith", "ports": "--ports", "prefix": "--prefix"}
"""Of the command line, for options so called, whichever architecture has them."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class Option:
    """One option of the file: dotted `key`, attribute of its class, default, and what values it may take."""

    key: str
    attribute: str
    default: Any
    allowed: str
    accepts: Callable[[Any], bool]
    meaning: str
    in_hash: bool = False

    def shown(self, value: Any) -> str:
        """`value` as it is written in the file."""
        return shown(value)

    def check(self, value: Any) -> None:
        """Raises `HeepgenError` naming the option, the value and the allowed range."""
        try:
            accepted = self.accepts(value)
        except (TypeError, ValueError):  # of a type that it was not written for
            accepted = False
        if not accepted:
            raise HeepgenError(f"{self.key} = {shown(value)}: must be {self.allowed}.")


AUTO = "auto"
"""In place of a number that follows from other options."""


class Chosen(int):
    """A number that a configuration chose itself, and chooses again where its other options change."""


Allowed = tuple[str, Callable[[Any], bool]]
"""Words for the values of an option, behind "must be", and whether a value is one of them."""


def integer(low: int, high: int) -> Allowed:
    """The integers from `low` to `high`."""
    return f"an integer from {low} to {high}", lambda v: _is_int(v) and low <= v <= high


def flag() -> Allowed:
    """Yes or no."""
    return "true or false", lambda v: isinstance(v, bool)


def power_of_two(low: int, high: int) -> Allowed:
    """The powers of two from `low` to `high`."""
    return (f"a power of two from {low} to {high}", lambda v: _is_int(v) and low <= v <= high and _is_power_of_two(v))


def option(
    default: Any,
    allowed: str,
    accepts: Callable[[Any], bool],
    meaning: str,
    section: str | None = None,
    in_hash: bool = False,
) -> Any:
    """A field of a configuration with what `Option` says of it, as in `option(8, *integer(1, 32), "rows")`.

    section: of the file, "" for its top; by default it is called as the architecture. in_hash: whether hardware differs
    with it.
    """
    facts = {"allowed": allowed, "accepts": accepts, "meaning": meaning, "section": section, "in_hash": in_hash}
    return field(default=default, metadata=facts)


SLAVE_FIRST, SLAVE_LAST, SLAVE_ALIGN = 0xF0000000, 0xF0FFF000, 0x1000

_SIZE = "systolic_array.size"  # the predecessor's one field: a square array


@dataclass(frozen=True, kw_only=True)
class System:
    """What every architecture's configuration has: the memory and the bus around it, and its name in Verilog.

    The options of an architecture are a frozen dataclass that derives from this one, and says its name. Raises
    `HeepgenError` naming the option, the value and the allowed range. An option of a section is called in the file as
    here, without the section's name if it begins with that.
    """

    architecture: ClassVar[str]

    memory_banks: int = option(4, *integer(2, 64), "contiguous RAM banks", section="memory")
    memory_banks_interleaved: tuple[int, ...] = option(
        (8, 4),
        "a list of group sizes, each a power of two from 2 to 64",
        lambda v: isinstance(v, tuple) and all(_is_int(n) and 2 <= n <= 64 and _is_power_of_two(n) for n in v),
        "groups of word-interleaved RAM banks, after the contiguous ones",
        section="memory",
    )
    bank_kib: int = option(32, *power_of_two(4, 256), "size of one RAM bank, KiB", section="memory")
    slave_base: int = option(
        SLAVE_FIRST,
        f"a multiple of {SLAVE_ALIGN:#x} from {SLAVE_FIRST:#x} to {SLAVE_LAST:#x}",
        lambda v: _is_int(v) and SLAVE_FIRST <= v <= SLAVE_LAST and v % SLAVE_ALIGN == 0,
        "bus address of the accelerator's registers",
        section="xheep",
    )
    irq_line: int = option(15, *integer(0, 15), "fast interrupt line the accelerator raises", section="xheep")
    prefix: str = option(
        "heepstor_",
        "a Verilog name (up to 64 letters, digits and underscores, first a letter; no SystemVerilog word)",
        lambda v: (
            isinstance(v, str)
            and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", v) is not None
            and v.rstrip("_") not in KEYWORDS
        ),
        "what every Verilog module's name begins with; the root is called so, without the underscore",
        section="",
    )

    def __post_init__(self) -> None:
        for o in options(type(self)):
            value = getattr(self, o.attribute)
            if isinstance(value, list):
                object.__setattr__(self, o.attribute, tuple(value))
            o.check(getattr(self, o.attribute))
        object.__setattr__(self, "prefix", f"{self.root}_")

    @classmethod
    def load(cls, path: str | Path | None = None, **overrides: Any) -> Self:
        """`load_config` for this architecture, whichever the file selects."""
        config = load_config(path, cls, **overrides)
        assert isinstance(config, cls)
        return config

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
    def root(self) -> str:
        """Name of the root module; those of the others begin with it and an underscore."""
        return self.prefix.rstrip("_")

    def usual(self, name: str) -> Any:
        """The default of an option, beside what the others are."""
        (default,) = (o.default for o in options(type(self)) if o.attribute == name)
        return getattr(replace(self, **{name: default}), name) if default == AUTO else default

    @property
    def hash(self) -> int:
        """32 bits that differ when the accelerator differs: firmware compares them at start."""
        text = f"{self.architecture} {INTERFACE_VERSION} " + " ".join(
            f"{o.key}={getattr(self, o.attribute)}" for o in options(type(self)) if o.in_hash
        )
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


WORDS_PER_PE, LEAST_SCRATCHPAD = 64, 4096
"""Of the scratchpad, by default: what an array computes grows with its area, what the ports bring does not."""


@dataclass(frozen=True)
class Config(System):
    """Configuration of the `descriptor` architecture, the default one."""

    architecture: ClassVar[str] = "descriptor"

    rows: int = option(
        8,
        *integer(1, 32),
        "rows R of the array: reduction lanes, activations read per cycle",
        section="systolic_array",
        in_hash=True,
    )
    cols: int = option(
        8,
        *integer(1, 32),
        "columns C of the array: output channels computed at once",
        section="systolic_array",
        in_hash=True,
    )
    arithmetic: str = option(
        "aligned",
        '"aligned" or "fma"',
        lambda v: v in ARITHMETICS,
        "processing element: block-aligned integer sums, or an IEEE-754 fused multiply-add each",
        section="systolic_array",
        in_hash=True,
    )
    ports: int = option(2, *integer(1, 4), "OBI master ports, one 32-bit word per cycle each", section="", in_hash=True)
    activation_words: int = option(
        8192, *power_of_two(256, 65536), "activation buffer, FP32 words", section="buffers", in_hash=True
    )
    weight_bytes: int = option(
        4096, *power_of_two(256, 65536), "weight buffer, bytes (one INT8 weight each)", section="buffers", in_hash=True
    )
    accumulator_entries: int = option(
        64,
        *power_of_two(16, 1024),
        "entries of each of the two accumulator banks; an entry is C FP32 lanes",
        section="buffers",
        in_hash=True,
    )
    scratchpad_words: int = option(
        AUTO,
        f'"{AUTO}", 0, or a power of two from 256 to 65536',
        lambda v: v == AUTO or _is_int(v) and (v == 0 or 256 <= v <= 65536 and _is_power_of_two(v)),
        f"scratchpad for tensors between layers, FP32 words; 0 leaves it out, {AUTO} is {WORDS_PER_PE} for each "
        f"processing element, and at least {LEAST_SCRATCHPAD}",
        section="buffers",
        in_hash=True,
    )
    functions: bool = option(
        True, *flag(), "function unit: Sigmoid, SiLU, GELU and others of outputs, from tables", section="", in_hash=True
    )
    multiply: bool = option(
        True, *flag(), "outputs may be multiplied by the second operand, not only added to it", section="", in_hash=True
    )
    int4_weights: bool = option(
        True, *flag(), "weights of 4 bits, two in a byte, for layers that have such", section="", in_hash=True
    )
    banded: bool = option(
        True, *flag(), "depthwise convolutions several outputs of a row at once", section="", in_hash=True
    )
    packed_scales: bool = option(
        True, *flag(), "scales of 16 bits, two in a word, for layers that have such", section="", in_hash=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given: int | str = self.scratchpad_words
        if given == AUTO or isinstance(given, Chosen):
            words = max(WORDS_PER_PE * self.rows * self.cols, LEAST_SCRATCHPAD)
            object.__setattr__(self, "scratchpad_words", Chosen(1 << (words - 1).bit_length()))

    @property
    def banks(self) -> int:
        """Banks of the activation buffer: enough for any run of R reads, P writes and C lanes."""
        return 1 << (max(self.rows, self.ports, self.cols) - 1).bit_length()

    @property
    def diagonal(self) -> int:
        """Channels per cycle in diagonal mode (depthwise, pooling), and taps of a banded tile."""
        return min(self.rows, self.cols)

    @property
    def scratchpad_banks(self) -> int:
        """Banks of the scratchpad: enough for a beat of P words."""
        return 1 << (self.ports - 1).bit_length()

    @property
    def load_rows(self) -> int:
        """Rows of weights entering the array per cycle: as many as the ports bring."""
        per_word = 8 if self.int4_weights else 4
        return min(self.rows, max(1, per_word * self.ports // self.cols))


_known_options: dict[Any, tuple[Option, ...]] = {}


def options(config: type[System]) -> tuple[Option, ...]:
    """The options of an architecture, its own before those of the system."""
    if config not in _known_options:
        every = [_described(own, config) for own in fields(config)]
        _known_options[config] = tuple(sorted(every, key=lambda o: o.attribute in System.__dataclass_fields__))
    return _known_options[config]


def own_options(config: type[System]) -> tuple[Option, ...]:
    """The options that an architecture has besides those of the system."""
    return tuple(o for o in options(config) if o.attribute not in System.__dataclass_fields__)


def _described(own: Field[Any], config: type[System]) -> Option:
    facts = dict(own.metadata)
    section = facts.pop("section")
    if section is None:
        section = config.architecture
    key = f"{section}.{own.name.removeprefix(section + '_')}" if section else own.name
    return Option(key, own.name, own.default, **facts)


OPTIONS = options(Config)


def load_config(
    given: str | Path | Mapping[str, Any] | None,
    config: type[System] | None = None,
    known: Mapping[str, type[System]] = MappingProxyType({Config.architecture: Config}),
    **overrides: Any,
) -> System:
    """Configuration from an hjson file, or a dictionary like one (defaults without any), of the architecture `config`,
    or of that which it selects by its name in `known`, `descriptor` unless it does; overrides of None are ignored.

    Sections of the other architectures in `known`, and those of `descriptor`, are checked and left alone. Raises
    `HeepgenError` on an unreadable file, a syntax error (with its line), an unknown or repeated name (with the closest
    known one), a value that is out of range, an architecture's path, which would run Python, and an override that the
    architecture has no option for.
    """
    try:
        tree = read_tree(Path(given)) if isinstance(given, str | Path) else dict(given or {})
        selected = _selected(tree.pop("architecture", Config.architecture), known)
        config = config or selected
        others: list[type[System]] = [Config, *(known[name] for name in tree if name in known)]
        from_file = config(**_attributes(tree, config, others))
    except HeepgenError as error:
        where = given if isinstance(given, str | Path) else "the configuration"
        raise HeepgenError(f"{where}: {error}") from None
    return overridden(from_file, **{name: value for name, value in overrides.items() if value is not None})


def overridden(config: System, **overrides: Any) -> System:
    """`config` with other values; raises `HeepgenError` for one out of range, and for what it has no option for."""
    for name in sorted(overrides):
        _check_override(name, type(config))
    return replace(config, **overrides)


def _selected(name: Any, known: Mapping[str, type[System]]) -> type[System]:
    if not isinstance(name, str) or re.search(r"[^A-Za-z0-9_-]", name):
        path = "; a path runs Python, and is taken from --architecture PATH alone" if isinstance(name, str) else ""
        raise HeepgenError(f"architecture = {shown(name)}: must be a name, such as {Config.architecture}{path}.")
    if name not in known:
        raise HeepgenError(unknown(name, known, "architecture"))
    return known[name]


def _check_override(name: str, config: type[System]) -> None:
    attributes = [o.attribute for o in options(config)]
    if name in attributes:
        return
    if name in FLAGS:
        raise HeepgenError(
            f"{FLAGS[name]}: architecture {config.architecture} has no option {name}; leave it out, its options are "
            f"{', '.join(o.key for o in options(config))}."
        )
    raise HeepgenError(unknown(name, attributes, "configuration override"))


def _flatten(tree: dict[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        members = [k.removeprefix(f"{key}.") for k in keys if k.startswith(f"{key}.")]
        if members:
            if not isinstance(value, dict):
                raise HeepgenError(
                    f"{key} = {shown(value)}: must be a section in braces, such as {key}: {{ {members[0]}: ... }}."
                )
            flat |= _flatten(value, keys, key + ".")
        else:
            flat[key] = value
    return flat


def _attributes(tree: dict[str, Any], config: type[System], others: list[type[System]]) -> dict[str, Any]:
    """Attributes of `config` that a file's tree gives; those of `others` are checked."""
    by_key = {o.key: o for one in (*others, config) for o in options(one)}
    flat = _flatten(tree, list(by_key))
    if _SIZE in flat:
        size = flat.pop(_SIZE)
        square = ("systolic_array.rows", "systolic_array.cols")
        if any(key in flat for key in square):
            raise HeepgenError(f"{_SIZE} already sets rows and cols; give either size, or rows and cols.")
        if not by_key[square[0]].accepts(size):
            raise HeepgenError(f"{_SIZE} = {shown(size)}: must be {by_key[square[0]].allowed}.")
        flat |= dict.fromkeys(square, size)
    mine, values = {o.key for o in options(config)}, {}
    for key, value in flat.items():
        if key not in by_key:
            raise HeepgenError(unknown(key, by_key, "option"))
        value = as_value(value)
        by_key[key].check(value)
        if key in mine:
            values[by_key[key].attribute] = value
    return values
