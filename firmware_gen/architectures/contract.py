# SPDX-License-Identifier: Apache-2.0
"""What an architecture says of itself: options, hardware, and what it computes.

`ARCHITECTURE` in an `architecture.py` is an `Architecture`. Nothing of PyTorch or MyHDL is imported here, and an
`architecture.py` of ours imports neither before it is asked to generate or compile something.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hls.bus.head import NAME_WORDS, c_header
from hls.config import System, own_options
from hls.errors import HeepgenError, Stopped
from hls.lib.probe import Engine

if TYPE_CHECKING:
    import numpy as np

    from firmware_gen import ir
    from firmware_gen.memory.network import Network
    from firmware_gen.memory.planner import Share
    from firmware_gen.models.image import Result, Sample
    from firmware_gen.operations.placement import Placement

NAME_LENGTH = 4 * NAME_WORDS
NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_LENGTH - 1}}}")
"""Of an architecture: what the four ARCHITECTURE registers hold."""
NAME_RULE = f"a name of up to {NAME_LENGTH} small letters, digits and underscores, first a letter"

MASTERS = 4
"""OBI masters that an accelerator may have."""


class Compute(Protocol):
    """The product of one call of the driver, bit by bit: a float32 (M, K), b int8 (K, N) -> float32 (M, N)."""

    def __call__(self, config: Any, a: "np.ndarray", b: "np.ndarray", /) -> "np.ndarray": ...


class Cycles(Protocol):
    """Cycles of a Linear layer (m, k, n) of any size: the driver, the loops around it and what is behind the sums."""

    def __call__(self, config: Any, m: int, k: int, n: int, /) -> int: ...


WAITS = {
    "data": "input words, which are loaded, or which the layer before has yet to store",
    "weights": "a tile of weights in the array",
    "lanes": "an accumulator bank, of which the epilogue's lanes read one in every cycle",
    "drain": "an accumulator bank, while the drain waits for its first sums, parameters, a second operand or the bus",
    "sums": "the sums of the step before, which are few",
    "start": "the layer's beginning: its descriptor, or the last stores of the list",
}
"""What an array that has no vector waits for, by what each one means."""


@dataclass(frozen=True)
class LayerCycles:
    """What a layer takes: cycles, and of the rest what the architecture knows; see `gen.results.runs.run.LayerReport`.

    bus, weights, drain: cycles for which, at least, the ports are busy, in all and with weights or with cutting these
    for the array, and the epilogue's lanes. on_cpu: the CPU computes it, and nothing but its cycles is known. waits:
    cycles in which the array waits, by cause, of WAITS; with the vectors they are all cycles.
    """

    cycles: int
    bound: int = 0
    vectors: int = 0
    bus_words: int = 0
    load_stall: int = 0
    store_stall: int = 0
    bus: int = 0
    weights: int = 0
    drain: int = 0
    on_cpu: bool = False
    waits: Mapping[str, int] = field(default_factory=dict)


BUSY = ("bus", "bus_words", "weights", "drain")
"""Attributes of `LayerCycles` that energies are counted by, besides those that a run measures too."""


@dataclass(frozen=True)
class Prediction:
    """Of an inference: a layer's part, None where it is not known, and cycles around them."""

    layers: "tuple[LayerCycles | None, ...]"
    around: int = 0


class Target(Protocol):
    """What compiles a network for an architecture, models it, and writes its program in C++.

    program: what `compile` returned; `network` gives its graph, tensors and memory. run, run_many: the bit-exact model,
    of one sample of the input's shape, or of many along the first dimension; run_steps: of one after the other, the
    network's state kept; taps: of every layer's output too. A sample of several inputs is a tuple. render: text of
    every file by relative name, and the manifest. explain: a row per layer.

    Where several networks take turns in one arena: keep_inputs is False, software gives a network for the CPU alone,
    moved a program with its constants and its arena elsewhere, and render takes what software gave, moved, as `beside`.
    """

    def compile(
        self,
        graph: "ir.Graph",
        config: Any,
        *,
        profile: bool = True,
        keep_activations: bool = False,
        keep_inputs: bool = True,
    ) -> Any: ...

    def software(self, program: Any, keep_inputs: bool = True) -> Any: ...

    def moved(self, program: Any, share: "Share") -> Any: ...

    def network(self, program: Any) -> "Network": ...

    def run(self, program: Any, sample: "Sample", taps: bool = False) -> "Result": ...

    def run_steps(self, program: Any, samples: "Iterable[Sample]", taps: bool = False) -> "Iterator[Result]": ...

    def run_many(
        self, program: Any, samples: "np.ndarray", taps: bool = False, progress: Callable[[int], None] = ...
    ) -> "Result": ...

    def render(
        self, program: Any, sample: "Sample", outputs: "tuple[np.ndarray, ...]", beside: Any = None
    ) -> tuple[dict[str, str], dict[str, Any]]: ...

    def explain(self, graph: "ir.Graph", imported: "ir.Graph | None" = None) -> "list[Placement]": ...

    def predict(self, program: Any) -> Prediction:
        """The cycles, without simulating; `HeepgenError` where the architecture does not say what its work takes."""

    def listing(self, program: Any) -> Any:
        """What every step of the accelerator does; `HeepgenError` where there is no such list."""


@dataclass(frozen=True)
class Limits:
    """The largest K and N of one call of the driver."""

    k: int
    n: int


KERNELS = ("depthwise", "max_pool", "average_pool", "activate")
"""Of the CPU, which a member function of a driver may replace."""


def _no_headers(_config: Any) -> Mapping[str, str]:
    return {}


def _no_tiles(_config: Any) -> "tuple[ir.Tiles, int] | None":
    return None


def _never(_config: Any) -> bool:
    return False


@dataclass(frozen=True)
class Gemm:
    """An accelerator of matrix products; all else of a network is ours.

    compute: its arithmetic, for K and N within `limits`. driver: C++ header with `class heepstor::Driver`, beside
    architecture.py. cycles: of a Linear layer, where they are known. kernels: NumPy models of the CPU's kernels that a
    member function of the driver replaces, by its name. headers: further C++ headers for the driver, such as its
    registers, text by name. pushes: whether the driver has `push` and `pull`, which `estimate` wants to know.
    """

    compute: Compute
    driver: str | Path
    limits: Callable[[Any], Limits]
    cycles: Cycles | None = None
    kernels: Mapping[str, Callable[..., "np.ndarray"]] = field(default_factory=dict)
    headers: Callable[[Any], Mapping[str, str]] = _no_headers
    pushes: Callable[[Any], bool] = _never


@dataclass(frozen=True)
class Graph:
    """An accelerator, or a CPU, that lowers whole networks by itself; `target` makes what does. products: whether its
    layers multiply by a second operand (`ir.Fused`, `ir.Combined`); where they do not, `ir.Product` of the CPU does.
    functions: whether they end in those of `ir.Activation`; where they do not, each is an `ir.Apply` of the CPU.
    statistics: whether sums, maxima and functions of many rows are faster than the CPU's `ir.Softmax` and
    `ir.Normalise`, which has both. tiles: of weights that the CPU computes for products of computed matrices, and the
    deepest such product; None where `ir.MatMul` of the CPU computes them."""

    target: Callable[[], Target]
    products: Callable[[Any], bool] = _never
    functions: Callable[[Any], bool] = _never
    statistics: Callable[[Any], bool] = _never
    tiles: Callable[[Any], "tuple[ir.Tiles, int] | None"] = _no_tiles


def _no_masters(_config: Any) -> int:
    return 0


def _no_parameters(_config: Any) -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class Verilog:
    """Hand-written Verilog or SystemVerilog: `files` beside architecture.py, each synthesisable as it is.

    top: module with ports clk, rst_n, s_req, s_we, s_be[3:0], s_addr[31:0], s_wdata[31:0], s_gnt, s_rvalid,
    s_rdata[31:0]; with P masters m_req[P-1:0], m_we, m_be, m_addr, m_wdata, m_gnt, m_rvalid, m_rdata, port 0 in the low
    bits; if it likes irq and idle. parameters: of the top, by name. masters: OBI masters, 0 to 4.
    """

    files: tuple[str | Path, ...]
    top: str
    parameters: Callable[[Any], Mapping[str, int]] = _no_parameters
    masters: Callable[[Any], int] = _no_masters


@dataclass(frozen=True)
class MyHdl:
    """A unit of `hls.lib.unit`, as `unit()` returns it, called as unit(clk, rst_n, s, m, irq, idle, config=config).

    s: `hls.bus.obi.Slave`; m: `hls.bus.obi.Masters`; it leaves out those of m, irq, idle that it does not have.
    masters: OBI masters, 0 to 4.
    """

    unit: Callable[[], Any]
    masters: Callable[[Any], int] = _no_masters


@dataclass(frozen=True)
class Whole:
    """Verilog that has the register head and the root module by itself: generate(config, folder) writes it."""

    generate: Callable[[Any, Path], Any]
    masters: Callable[[Any], int] = _no_masters


Hardware = Verilog | MyHdl | Whole


@dataclass(frozen=True)
class Fact:
    """A line of the report of generated hardware: `key` and `value` in JSON, `label` and `text` for the eye, which sees
    none without a text."""

    key: str
    label: str
    value: int | float | str
    text: str


def _no_facts(_config: Any) -> Sequence[Fact]:
    return ()


def _no_engines(_config: Any) -> Sequence[Engine]:
    return ()


def _unknown_peak(_config: Any) -> int:
    return 0


def _head(_config: Any) -> Mapping[str, str]:
    return {"heepstor_head.h": c_header()}


def _described(config: Any) -> str:
    given = ", ".join(f"{o.attribute} {o.shown(getattr(config, o.attribute))}" for o in own_options(type(config)))
    return f"{config.architecture}, {given}" if given else str(config.architecture)


@contextmanager
def own_code(name: str) -> Iterator[None]:
    """While functions of architecture `name` run: what they raise becomes `HeepgenError` with that name."""
    try:
        yield
    except (HeepgenError, Stopped):
        raise
    except (Exception, SystemExit) as error:
        raise HeepgenError(
            f"architecture {name}: {type(error).__name__}: {error}; its own code raised this, HEEPGEN_DEBUG=1 shows "
            "where."
        ) from error


def own_files(
    name: str, files: Callable[[Any], Mapping[str, str]], config: System, taken: Collection[str]
) -> dict[str, str]:
    """Text by name of the `files` that architecture `name` adds to a folder of ours; raises `HeepgenError` where a name
    leads elsewhere or is `taken`."""
    with own_code(name):
        found = dict(files(config))
    for file, text in found.items():
        if not (isinstance(file, str) and re.fullmatch(r"\w[\w.-]*", file) and isinstance(text, str)):
            raise HeepgenError(f"architecture {name}: file {file!r}: must be a name without a folder, and text.")
        if file in taken:
            raise HeepgenError(f"architecture {name}: file {file}: heepgen writes one of that name; rename it.")
    return found


def limits_of(gemm: Gemm, config: System) -> Limits:
    """The largest K and N of a call; raises `HeepgenError` where they are no positive integers."""
    with own_code(config.architecture):
        given = gemm.limits(config)
        limits = Limits(operator.index(given.k), operator.index(given.n))
    if min(limits.k, limits.n) < 1:
        raise HeepgenError(
            f"architecture {config.architecture}: limits k = {limits.k}, n = {limits.n}: must be positive integers."
        )
    return limits


@dataclass(frozen=True)
class Architecture:
    """A kind of accelerator with the software that drives it.

    summary: one line. config: its options, see `System`; its name is theirs. hardware: None for a CPU alone. facts: of
    generated hardware, besides options and hash. documents: text by name of the files beside it, such as C headers of
    its registers. describe: one line that names what is built. peak: multiply-accumulates per cycle at most, 0 where
    nobody knows. engines: what a trace of a run shows of it besides its ports. folder: where relative paths begin.

    Raises `HeepgenError` for what cannot be one.
    """

    summary: str
    config: type[System]
    software: Gemm | Graph
    hardware: Hardware | None = None
    facts: Callable[[Any], Sequence[Fact]] = _no_facts
    documents: Callable[[Any], Mapping[str, str]] = _head
    describe: Callable[[Any], str] = _described
    peak: Callable[[Any], int] = _unknown_peak
    engines: Callable[[Any], Sequence[Engine]] = _no_engines
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.config, type) and issubclass(self.config, System) and is_dataclass(self.config)):
            raise HeepgenError(f"config = {self.config!r}: must be a frozen dataclass that derives from System.")
        name = getattr(self.config, "architecture", None)
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise HeepgenError(f"architecture = {name!r} of {self.config.__name__}: must be {NAME_RULE}.")
        for own in fields(self.config):
            if "accepts" not in own.metadata:
                raise HeepgenError(
                    f"{own.name} of {self.config.__name__} is no option; write {own.name} = option(...)."
                )
        for derived in self.config.__mro__[: self.config.__mro__.index(System)]:
            for attribute in vars(derived).get("__annotations__", {}):
                if attribute != "architecture" and hasattr(System, attribute):
                    raise HeepgenError(
                        f"{attribute} of {derived.__name__} is an attribute of System; choose another name."
                    )
        self.config()
        kinds = {"software": (Gemm, Graph), "hardware": (Verilog, MyHdl, Whole, type(None))}
        for attribute, kind in kinds.items():
            if not isinstance(getattr(self, attribute), kind):
                names = " or ".join("None" if k is type(None) else k.__name__ for k in kind)
                raise HeepgenError(f"{attribute} = {getattr(self, attribute)!r}: must be {names}.")
        if self.hardware is None and isinstance(self.software, Gemm):
            raise HeepgenError("hardware = None: a matrix product of Gemm is computed by hardware; say which.")
        for kernel in self.software.kernels if isinstance(self.software, Gemm) else ():
            if kernel not in KERNELS:
                raise HeepgenError(f"kernels: {kernel!r} is no kernel that a driver may have: {', '.join(KERNELS)}.")

    @property
    def name(self) -> str:
        """Of the architecture, in files, on the command line, and in the ARCHITECTURE registers."""
        return self.config.architecture

    @property
    def level(self) -> str:
        """What it computes: matrix products, or whole networks."""
        return "gemm" if isinstance(self.software, Gemm) else "graph"

    def has_products(self, config: System) -> bool:
        """Whether layers multiply by a second operand: our own kernels do."""
        if isinstance(self.software, Gemm):
            return True
        with self.own_code():
            return bool(self.software.products(config))

    def has_functions(self, config: System) -> bool:
        """Whether layers end in functions: our own kernels do."""
        if isinstance(self.software, Gemm):
            return True
        with self.own_code():
            return bool(self.software.functions(config))

    def has_statistics(self, config: System) -> bool:
        """Whether its layers are faster than the CPU's kernels for Softmax and norms of many rows."""
        if isinstance(self.software, Gemm):
            return False
        with self.own_code():
            return bool(self.software.statistics(config))

    def tiles(self, config: System) -> "tuple[ir.Tiles, int] | None":
        """`Graph.tiles`; None of an architecture that multiplies matrices for the CPU."""
        if isinstance(self.software, Gemm):
            return None
        with self.own_code():
            return self.software.tiles(config)

    def own_code(self) -> AbstractContextManager[None]:
        """While functions of the architecture run: what they raise becomes `HeepgenError` with its name."""
        return own_code(self.name)

    def described(self, config: System) -> str:
        """What `describe` says; raises `HeepgenError` where it is no line."""
        with self.own_code():
            text = self.describe(config)
        if not (isinstance(text, str) and len(text.splitlines()) == 1):
            raise HeepgenError(f"architecture {self.name}: describe says {text!r}: must be one line of text.")
        return text

    def most_macs(self, config: System) -> int:
        """`peak`; raises `HeepgenError` where it is no natural number."""
        with self.own_code():
            count = operator.index(self.peak(config))
        if count < 0:
            raise HeepgenError(f"architecture {self.name}: peak is {count}: must not be negative.")
        return count

    def masters(self, config: System) -> int:
        """OBI masters of the hardware of `config`; raises `HeepgenError` for more than there may be."""
        with self.own_code():
            count = 0 if self.hardware is None else self.hardware.masters(config)
        if not isinstance(count, int) or not 0 <= count <= MASTERS:
            raise HeepgenError(f"architecture {self.name} has {count!r} masters: must be from 0 to {MASTERS}.")
        return count
