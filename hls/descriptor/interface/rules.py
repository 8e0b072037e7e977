# SPDX-License-Identifier: Apache-2.0
"""The rules of a descriptor, each written once: the hardware (`control.check`) and `model` refuse what breaks one."""

from dataclasses import dataclass
from typing import Protocol

from hls.arithmetic.function import ROW_WORDS, TABLE_WORDS
from hls.config import Config
from hls.descriptor.interface.table import FIELD, LINEAR, SCRATCHPAD, Descriptor, Linked, split_address


class Rule(Protocol):
    """Something that must hold among the fields of a descriptor."""

    def broken(self, f: Linked, config: Config) -> bool: ...

    def text(self, f: Linked, config: Config) -> str: ...


@dataclass(frozen=True)
class NotZero:
    """A count is not 0."""

    name: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.name] == 0)

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is 0"


@dataclass(frozen=True)
class AtMost:
    """A field is at most another one, or at most the entries of an accumulator bank."""

    name: str
    bound: str = ""

    def limit(self, f: Linked, config: Config) -> int:
        return int(f[self.bound]) if self.bound else config.accumulator_entries

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.name] > self.limit(f, config))

    def text(self, f: Linked, config: Config) -> str:
        return (
            f"{self.name} {f[self.name]} is more than {self.bound or 'the accumulator entries'}, "
            f"{self.limit(f, config)}"
        )


@dataclass(frozen=True)
class Below:
    """A field is less than another one."""

    name: str
    bound: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.name] >= f[self.bound])

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} {f[self.name]} is not less than {self.bound}, {f[self.bound]}"


@dataclass(frozen=True)
class Excludes:
    """Two flags are not set together."""

    flag: str
    other: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and f[self.other])

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.flag} and {self.other} exclude each other"


@dataclass(frozen=True)
class Requires:
    """A flag is only set with another one."""

    flag: str
    other: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and not f[self.other])

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.flag} without {self.other}"


@dataclass(frozen=True)
class Needs:
    """A flag is only set where the configuration has an option."""

    flag: str
    option: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and not getattr(config, self.option))

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.flag}, but the configuration says {self.option}: false"


@dataclass(frozen=True)
class Within:
    """A count is in a range where ``flag`` is set."""

    name: str
    low: int
    high: int
    flag: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and not self.low <= f[self.name] <= self.high)

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is {f[self.name]}, with {self.flag} it must be {self.low} to {self.high}"


@dataclass(frozen=True)
class OffChip:
    """An address is not the scratchpad's where ``flag`` is set."""

    name: str
    flag: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and split_address(f[self.name])[0] == SCRATCHPAD)

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is in region {SCRATCHPAD}, from where no table is read"


@dataclass(frozen=True)
class IsOne:
    """A count is 1 where ``flag`` is set, or always."""

    name: str
    flag: str = ""

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.name] != 1 and (not self.flag or f[self.flag]))

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is {f[self.name]}, with {self.flag} it must be 1"


@dataclass(frozen=True)
class Equals:
    """A field equals another one where ``flag`` is set."""

    name: str
    other: str
    flag: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and f[self.name] != f[self.other])

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} {f[self.name]} is not {self.other} {f[self.other]}, though {self.flag} is set"


@dataclass(frozen=True)
class Blocks:
    """A count is a length divided by the block size, rounded up; not where the flag ``unless`` is set."""

    count: str
    length: str
    unless: str = ""

    def size(self, config: Config, diagonal: bool) -> int:
        """Block size: rows of the array for blocks of a run, else output channels per vector."""
        return config.rows if self.length == "RUN" else config.diagonal if diagonal else config.cols

    def broken(self, f: Linked, config: Config) -> bool:
        size = self.size(config, bool(f.diagonal))
        return not (self.unless and f[self.unless]) and not 0 <= f[self.count] * size - f[self.length] < size

    def text(self, f: Linked, config: Config) -> str:
        return (
            f"{self.count} {f[self.count]} blocks of {self.size(config, bool(f.diagonal))} do not match "
            f"{self.length} {f[self.length]}"
        )


@dataclass(frozen=True)
class InColumns:
    """A count is at most the columns of the array where ``flag`` is set."""

    name: str
    flag: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and f[self.name] > config.cols)

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is {f[self.name]}, with {self.flag} it must be at most {config.cols}, the columns"


@dataclass(frozen=True)
class OneInBanks:
    """A step is 1 modulo the banks of the activation buffer where ``flag`` is set."""

    name: str
    flag: str

    def broken(self, f: Linked, config: Config) -> bool:
        return bool(f[self.flag] and (f[self.name] - 1) % config.banks)

    def text(self, f: Linked, config: Config) -> str:
        return f"{self.name} is {f[self.name]}, with {self.flag} it must be 1 modulo {config.banks}, the buffer's banks"


RULES: tuple[Rule, ...] = (
    *map(
        NotZero,
        (
            "LOAD_C_COUNT",
            "LOAD_X_COUNT",
            "LOAD_Y_COUNT",
            "LOAD_WORDS",
            "KH",
            "KX",
            "KB",
            "STRIDE_Y",
            "OUT_W",
            "OUT_PX",
            "STRIP_PX",
            "FIRST_PX",
            "CBG",
            "GROUPS",
            "NCB",
            "COUT",
        ),
    ),
    AtMost("FIRST_PX", "STRIP_PX"),
    AtMost("STRIP_PX"),
    AtMost("CBG"),
    AtMost("FIRST_LANE", "RUN"),
    AtMost("LAST_LANES", "RUN"),
    Below("LOAD_GAP", "LOAD_C_COUNT"),
    Excludes("RESIDUAL", "ACC_INIT"),
    Excludes("HALVES", "ACC_INIT"),
    Requires("UNIT_WEIGHTS", "DIAGONAL"),
    IsOne("GROUPS", "DIAGONAL"),
    IsOne("KB", "DIAGONAL"),
    Equals("RUN", "COUT", "DIAGONAL"),
    Blocks("NCB", "COUT", "BAND"),
    Blocks("KB", "RUN", "DIAGONAL"),
    Needs("FUNCTION", "functions"),
    Needs("MULTIPLY", "multiply"),
    Needs("INT4", "int4_weights"),
    Needs("PACKED_SCALES", "packed_scales"),
    Needs("BAND", "banded"),
    Excludes("BAND", "DIAGONAL"),
    Excludes("BAND", "PACKED_SCALES"),
    Within("BAND", 1, 2, "BAND"),
    IsOne("KX", "BAND"),
    IsOne("KB", "BAND"),
    IsOne("GROUPS", "BAND"),
    InColumns("COUT", "BAND"),
    OneInBanks("KX_STEP", "BAND"),
    Requires("TABLE_SLOT", "FUNCTION"),
    Requires("LOAD_TABLE", "FUNCTION"),
    Requires("MULTIPLY", "RESIDUAL"),
    Requires("NEGATIVE", "MULTIPLY"),
    Excludes("MULTIPLY", "SLOPE_EN"),
    Within("TABLE_ROWS", 1, TABLE_WORDS // ROW_WORDS, "LOAD_TABLE"),
    OffChip("TABLE_ADDR", "LOAD_TABLE"),
)


@dataclass(frozen=True)
class Product:
    """One multiplication, and what must hold for it unless ``unless`` is set, or holds.

    ``left`` is a field, or None for the product before, of LINEAR bits at most; ``right`` a field, or None for the
    weights of a tile. ``target``: "" for none; the field that equals the product modulo its width (PARAM_WORDS:
    times the words per channel block); "entries": the product is at most that, half of it with HALVES;
    "WEIGHT_WORDS": weights, filled up to whole beats. ``whole``: the product has LINEAR bits at most.
    """

    left: str | None
    right: str | None
    target: str = ""
    unless: str | AtMost | IsOne = ""
    whole: bool = False

    @property
    def chained(self) -> bool:
        """Whether the product is one of several, and must not grow too large."""
        return self.whole or self.left is None or not self.target or self.target == "PARAM_WORDS"

    def exempt(self, f: Linked, config: Config) -> bool:
        if isinstance(self.unless, str):
            return bool(self.unless and f[self.unless])
        return not self.unless.broken(f, config)

    def broken(self, value: int, f: Linked, config: Config) -> bool:
        """Whether ``value``, the product, is wrong."""
        if self.chained and value >> LINEAR + 2 * (self.right is None):
            return True
        if not self.target or self.exempt(f, config):
            return False
        if self.target == "entries":
            return value > bank_entries(config, bool(f.halves))
        if self.target == "WEIGHT_WORDS":
            words, room = f.weight_words, weights_per_word(f)
            return not 0 <= room * words - value < room * config.ports or words % config.ports != 0
        if self.target == "PARAM_WORDS":
            value *= block_params(config, bool(f.diagonal), bool(f.band), bool(f.packed_scales))
        return bool((value - f[self.target]) % (1 << FIELD[self.target].width))


PRODUCTS = (
    Product("LOAD_C_COUNT", "LOAD_X_COUNT"),
    Product(None, "LOAD_Y_COUNT", "LOAD_WORDS"),
    Product("IN_ROW", "IN_H", "LOAD_WORDS", whole=True),
    Product("IN_ROW", "Y0", "ROW0"),
    Product("IN_ROW", "DIL_Y", "KY_STEP", IsOne("KH")),
    Product("IN_ROW", "STRIDE_Y", "SY_WORDS", AtMost("OUT_PX", "OUT_W")),
    Product("STRIP_PX", "CBG", "entries"),
    Product("GROUPS", "NCB", "PARAM_WORDS", "UNIFORM"),
    Product(None, "KH"),
    Product(None, "KX"),
    Product(None, "KB"),
    Product(None, None, "WEIGHT_WORDS", "UNIT_WEIGHTS"),
)


def built(config: Config) -> tuple[Rule, ...]:
    """The rules that hardware of this configuration looks at: of fields that it holds, and not always kept."""
    return tuple(
        rule
        for rule in RULES
        if not (isinstance(rule, Needs) and getattr(config, rule.option))
        and not (isinstance(rule, OneInBanks) and config.banks == 1)
        and all(FIELD[name].held(config) for name in vars(rule).values() if name in FIELD)
    )


def activation_room(config: Config) -> int:
    """Words that a strip may need at once: a beat that is under way has room beside them."""
    return config.activation_words - config.ports


def bank_entries(config: Config, halves: bool) -> int:
    """Accumulators that a group of channel blocks may use, per column."""
    return config.accumulator_entries >> halves


def may_halve(f: Descriptor[object], strip_px: int, config: Config) -> bool:
    """Whether half banks do for a descriptor in strips of so many pixels."""
    return not f.acc_init and strip_px * f.cbg <= bank_entries(config, True)


def block_params(config: Config, diagonal: bool, banded: bool = False, packed: bool = False) -> int:
    """Parameter words of one channel block, or of a banded layer's channel; ``packed``: with PACKED_SCALES."""
    channels = 1 if banded else config.diagonal if diagonal else config.cols
    rows = -(-channels // config.ports)
    return config.ports * (rows + (-(-rows // 2) if packed else rows))


def weights_per_word(f: Descriptor[object]) -> int:
    """Of the weight stream."""
    return 8 if f.int4 else 4


def tile_weights(config: Config, row: bool) -> int:
    """Weights of one tile in the stream; ``row``: it is a diagonal or a banded one."""
    return config.diagonal if row else config.rows * config.cols


def tile_weights_of(f: Descriptor[object], config: Config) -> int:
    """Those of a descriptor's."""
    return tile_weights(config, bool(f.diagonal or f.band))


def contradiction(f: Linked, config: Config) -> str | None:
    """What is wrong with the fields of a descriptor, in words; None when nothing is."""
    for rule in RULES:
        if rule.broken(f, config):
            return rule.text(f, config)
    value = 0
    for product in PRODUCTS:
        left = value if product.left is None else f[product.left]
        value = left * (tile_weights_of(f, config) if product.right is None else f[product.right])
        if product.broken(value, f, config):
            what = " * ".join(n for n in (product.left or "the product", product.right or "weights of a tile"))
            length = (
                f"{product.target} {f[product.target]}" if product.target in FIELD else product.target or "a length"
            )
            return f"{length} does not match {what} = {value}"
    return None


def available(product: Product, ports: int) -> int:
    """First beat of a fetched descriptor, of ``ports`` words each, in which the product may be computed: its operands
    are there, and what it is compared with is there in the next cycle."""
    beats = [FIELD[name].word // ports for name in (product.left, product.right) if name]
    names = [product.target]
    if product.unless:
        names += [product.unless] if isinstance(product.unless, str) else vars(product.unless).values()
    return max([beat + 1 for beat in beats] + [FIELD[name].word // ports for name in names if name in FIELD])
