# SPDX-License-Identifier: Apache-2.0
"""The programs that the kit runs on the virtual SoC: one that reads the register head, and one that takes steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path

import numpy as np

from firmware_gen.architectures.contract import Gemm, Limits
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.emit.codegen import runtime
from firmware_gen.targets.calls.emission import RUNTIME
from firmware_gen.targets.calls.target import driver_of
from hls.bus.head import HEAD
from hls.config import System
from hls.errors import HeepgenError

HEAD_NAMES = tuple(register.name for register in HEAD if not register.name.startswith("CYCLE"))
"""Registers that the first program reads."""

FILL = 0xA5
"""Every byte of memory that holds nothing else."""

_SOURCES = Path(__file__).parent


class Kind(IntEnum):
    """What a step does, see calls.cpp."""

    LOAD = 1
    MULTIPLY = 2
    PUSH = 3
    PULL = 4
    PAUSE = 5
    BEGIN = 6
    FINISH = 7
    RESET = 8
    HELD = 9
    PRODUCT = 10


@dataclass(frozen=True)
class KitStep:
    """One step of the table. a: where floats or weights lie; c: where results go; offsets: of a row's floats, 0 where
    they lie side by side; stride: between rows, in words, of weights in bytes. b, depth: weights and their rows, of a
    product by our loops. limit: cycles it may take."""

    kind: Kind
    limit: int
    a: int = 0
    rows: int = 0
    columns: int = 0
    stride: int = 0
    slot: int = 0
    first: int = 0
    offsets: int = 0
    c: int = 0
    b: int = 0
    depth: int = 0


STEP_WORDS, TABLE_WORDS = len(fields(KitStep)), 1


def header() -> str:
    """What the programs and Python share, as C++."""
    names = [f"k{kind.name.capitalize()} = {kind.value}" for kind in Kind]
    offsets = [f"{register.offset:#x}u" for register in HEAD if register.name in HEAD_NAMES]
    return "\n".join(
        [
            "#ifndef HEEPSTOR_KIT_STEPS_HPP\n#define HEEPSTOR_KIT_STEPS_HPP\n\n#include <stdint.h>\n",
            "namespace heepstor {\nnamespace kit {\n",
            f"enum : uint32_t {{ {', '.join(names)} }};\n",
            f"struct Step {{\n  uint32_t {', '.join(f.name for f in fields(KitStep))};\n}};\n",
            "struct Table {\n  uint32_t count;\n  Step steps[1];\n};\n",
            f"constexpr uint32_t kHead[] = {{{', '.join(offsets)}}};\n",
            "}  // namespace kit\n}  // namespace heepstor\n\n#endif\n",
        ]
    )


@dataclass
class Memory:
    """What lies behind `base`: the table of steps, and what they read and write, each between bytes of FILL."""

    base: int
    room: int
    steps: list[KitStep] = field(default_factory=list)
    _parts: list[tuple[int, bytes]] = field(default_factory=list)
    _size: int = 0

    _GAP = 8

    def put(self, content: np.ndarray, align: int = 4, shift: int = 0) -> int:
        """Place of an array, relative to the first one; `shift` bytes behind a multiple of `align`."""
        start = -(-(self._size + self._GAP) // align) * align + shift
        data = np.ascontiguousarray(content).tobytes()
        self._parts.append((start, data))
        self._size = start + len(data)
        return start

    def leave(self, count: int) -> int:
        """Place for `count` words that the steps write."""
        return self.put(np.full(4 * count, FILL, np.uint8))

    def image(self) -> np.ndarray:
        """uint8, from `base` on."""
        first = self.first
        if first + self._size + self._GAP > self.room:
            raise HeepgenError(f"the cases take {first + self._size:,} bytes, and {self.room:,} are left for them.")
        image = np.full(first + self._size + self._GAP, FILL, np.uint8)
        places = {"a", "b", "c", "offsets"}
        words = [len(self.steps)]
        for step in self.steps:
            for f in fields(step):
                value = getattr(step, f.name)
                words.append(value + self.base + first if f.name in places and value else int(value))
        image[: 4 * len(words)] = np.array(words, np.uint32).view(np.uint8)
        for start, data in self._parts:
            image[first + start : first + start + len(data)] = np.frombuffer(data, np.uint8)
        return image

    @property
    def first(self) -> int:
        """Where the first array lies, from `base`."""
        words = TABLE_WORDS + STEP_WORDS * len(self.steps)
        return -(-4 * words // 16) * 16


def write_sources(config: System, folder: Path) -> tuple[list[Path], list[Path]]:
    """Sources and folders of headers of the program of steps, with the architecture's driver, in `folder`."""
    architecture = architecture_of(config)
    assert isinstance(architecture.software, Gemm)
    with architecture.own_code():
        files = runtime(RUNTIME) | dict(driver_of(architecture.software, config).files)
    return _written("calls.cpp", files, folder)


def write_head_sources(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sources and folders of headers of the program that reads the register head."""
    return _written("head.cpp", runtime(), folder)


def _written(main: str, files: Mapping[str, str], folder: Path) -> tuple[list[Path], list[Path]]:
    folder.mkdir(parents=True)
    texts = dict(files) | {"steps.hpp": header(), main: (_SOURCES / main).read_text(encoding="utf-8")}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.cpp")), [folder]


def defines(config: System, table: int, limits: Limits | None = None) -> dict[str, object]:
    """Of both programs; `limits` are for that of steps."""
    sizes = {"DEPTH": limits.k, "WIDTH": limits.n} if limits else {}
    return sizes | {
        "ARCHITECTURE": f'"{config.architecture}"',
        "CONFIG_HASH": f"{config.hash}u",
        "SLAVE_BASE": f"{config.slave_base:#x}u",
        "IRQ_LINE": config.irq_line,
        "TABLE": f"{table:#x}u",
    }


def first_error(text: str) -> str:
    """The first line of a compiler's or a tool's words that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked: Sequence[str] = [line for line in lines if "error" in line.lower() and "failed (exit" not in line]
    return (marked or lines or [""])[0]
