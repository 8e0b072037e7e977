# SPDX-License-Identifier: Apache-2.0
"""Save files for GTKWave and Surfer beside VCD files: all of the time, signals grouped by module, markers, and in
GTKWave FP32 buses as one real number per lane."""

import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from vcd.gtkw import GTKWSave
from vcd.reader import TokenKind, VCDParseError, tokenize

from hls.descriptor.interface.table import FIELDS
from hls.output import write_file

FP32 = frozenset(f.attribute for f in FIELDS if f.kind == "fp32") | frozenset(
    {
        "a",
        "a_out",
        "b",
        "x",
        "y",
        "acc",
        "psum",
        "psum_out",
        "product",
        "addend",
        "affine",
        "activated",
        "vec",
        "col_data",
        "rd_data",
        "wr_data",
        "rsp_data",
        "param_data",
        "aux_data",
        "init_data",
        "drain_data",
        "store_data",
        "cmd_wdata",
        "m_rdata",
        "m_wdata",
    }
)
"""Buses that carry FP32 words, one per 32 bits, wherever they occur: numbers of a descriptor, and others."""
OPEN_ROWS = 60
"""The first group is unfolded when the viewer starts, and further ones as long as there are not more rows."""
DEPTH = 2  # levels of modules that get a group
MOST_MARKERS = 26
"""Named markers of GTKWave, A to Z."""
WINDOW = (1280, 760)
SIGNALS_WIDTH, TREE_WIDTH = 240, 180
_WAVES_WIDTH = 660
"""Pixels of waves that such a window has at least."""
_FRAME = 200
"""Pixels that take 2 ** -zoom units of time in GTKWave."""
_TAIL = 1 << 16
_STAMP = re.compile(rb"\n#(\d+)\s")


@dataclass(frozen=True)
class Variable:
    """A variable of a VCD: its scopes, its name, its name as GTKWave knows it, and its width."""

    scopes: tuple[str, ...]
    name: str
    reference: str
    bits: int

    @property
    def path(self) -> str:
        """GTKWave gives every vector a range, also where the file says none."""
        plain = self.bits > 1 and not self.reference.endswith("]")
        return ".".join((*self.scopes, f"{self.reference}[{self.bits - 1}:0]" if plain else self.reference))

    @property
    def fp32(self) -> bool:
        name = self.name.removeprefix("job_")
        return name in FP32 and self.bits % 32 == 0

    @property
    def lanes(self) -> int:
        """Rows that it takes."""
        return self.bits // 32 if self.fp32 else 1


def variables(vcd: Path) -> list[Variable]:
    """The variables declared in a VCD file, in order; an unfinished header ends the list."""
    found: list[Variable] = []
    scopes: list[str] = []
    with open(vcd, "rb") as stream:
        try:
            for token in tokenize(stream):
                if token.kind is TokenKind.SCOPE:
                    scopes.append(token.scope.ident)
                elif token.kind is TokenKind.UPSCOPE:
                    scopes.pop()
                elif token.kind is TokenKind.VAR:
                    found.append(Variable(tuple(scopes), token.var.reference, token.var.ref_str, token.var.size))
                elif token.kind is TokenKind.ENDDEFINITIONS:
                    break
        except VCDParseError:
            pass
    return found


def end_time(vcd: Path) -> int:
    """The last time stamp of a VCD file, 0 without one."""
    size = vcd.stat().st_size
    with open(vcd, "rb") as stream:
        length = _TAIL
        while True:
            stream.seek(max(0, size - length))
            stamps = _STAMP.findall(stream.read())
            if stamps or length >= size:
                return int(stamps[-1]) if stamps else 0
            length *= 4


def write_save_file(vcd: Path, markers: Sequence[tuple[int, str]] = ()) -> Path:
    """Write what viewers show of ``vcd`` beside it, NAME.gtkw for `gtkwave NAME.gtkw` and NAME.sucl for
    `surfer NAME.vcd -c NAME.sucl`, and return the path of the former. Both show all of its time, signals grouped by
    module, and `markers` (time, name) at the ends of something, of which GTKWave has the `MOST_MARKERS` longest.

    A file that GTKWave or somebody else saved there stays.
    """
    groups: dict[tuple[str, ...], list[Variable]] = {}
    for variable in variables(vcd):
        if variable.scopes and len(variable.scopes) <= DEPTH:
            groups.setdefault(variable.scopes, []).append(variable)
    path = vcd.with_suffix(".gtkw")
    _write_own(path, _gtkwave(vcd, groups, markers))
    _write_own(vcd.with_suffix(".sucl"), _surfer(groups, markers))
    return path


def _gtkwave(vcd: Path, groups: Mapping[tuple[str, ...], list[Variable]], markers: Sequence[tuple[int, str]]) -> str:
    shown = _longest(markers)
    text = io.StringIO()
    save = GTKWSave(text)
    save.dumpfile(str(vcd))
    save.timestart(0)
    save.size(*WINDOW)
    save.zoom_markers(_zoom(end_time(vcd)), **{letter: time for letter, (time, _) in zip(ascii_lowercase, shown)})
    for letter, (_, name) in zip(ascii_uppercase, shown):
        text.write(f"[markername] {letter}{' '.join(name.split())}\n")
    text.write(f"[sst_width] {TREE_WIDTH}\n")
    save.signals_width(SIGNALS_WIDTH)
    save.sst_expanded(True)
    rows = 0
    for scopes, members in groups.items():
        own = sum(variable.lanes for variable in members)
        closed = rows > 0 and rows + own > OPEN_ROWS
        with save.group(".".join(scopes), closed=closed):
            _show(save, members)
        rows += 0 if closed else own
    return text.getvalue()


def _longest(markers: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The `MOST_MARKERS` with the most time since the one before, in order."""
    times = [0, *(time for time, _ in markers)]
    order = sorted(range(len(markers)), key=lambda i: times[i] - times[i + 1])
    return [markers[i] for i in sorted(order[:MOST_MARKERS])]


def _zoom(time: int) -> float:
    """Of GTKWave, so that `time` fits."""
    return min(0.0, -math.log2(_FRAME * (time + 1) / _WAVES_WIDTH))


def _surfer(groups: Iterable[tuple[str, ...]], markers: Sequence[tuple[int, str]]) -> str:
    """Commands; blanks, # and ; end a name there."""
    lines = [f"scope_add_as_group {'.'.join(scopes)}" for scopes in groups]
    lines += [f"marker_set {re.sub(r'[^!-~]|[#;]', '_', name)} {time}" for time, name in markers]
    return "\n".join([*lines, "zoom_fit", ""])


def _write_own(path: Path, text: str) -> None:
    """Write a file unless another program changed it."""
    if path.exists() and not _is_ours(path):
        return
    content = text.encode("utf-8", "surrogateescape")
    write_file(path, _heading(path.suffix, content) + content, "save file")


def _heading(suffix: str, content: bytes) -> bytes:
    comment = "[*]" if suffix == ".gtkw" else "#"
    return f"{comment} Generated by heepgen {hashlib.sha256(content).hexdigest()}\n".encode()


def _is_ours(path: Path) -> bool:
    heading, _, content = path.read_bytes().partition(b"\n")
    return heading + b"\n" == _heading(path.suffix, content)


def _show(save: GTKWSave, members: Iterable[Variable]) -> None:
    for variable in members:
        if not variable.fp32:
            save.trace(variable.path, datafmt="bin" if variable.bits == 1 else "hex")
        elif variable.bits == 32:
            save.trace(variable.path, datafmt="real")
        else:
            for lane in range(variable.lanes):
                first = variable.bits - 32 * (lane + 1)  # bits of a combined trace count from the top
                save.trace_combined(
                    f"{variable.name}.{lane}", [(first + i, variable.path) for i in range(32)], datafmt="real"
                )
