"""GTKWave save files beside VCD files: signals grouped by module, FP32 buses as one real number per lane."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vcd.gtkw import GTKWSave
from vcd.reader import TokenKind, VCDParseError, tokenize

# Buses that carry FP32 words, one per 32 bits, wherever they occur in the hierarchy.
FP32 = frozenset({
    "a", "b", "x", "y", "acc", "product", "addend", "affine", "activated", "scale", "bias", "slope", "low", "high",
    "pad_value", "vec", "col_data", "rd_data", "wr_data", "rsp_data", "param_data", "aux_data", "init_data",
    "drain_data", "store_data", "cmd_wdata", "m_rdata", "m_wdata"})
OPEN_SCOPES = 1  # the first groups are unfolded when the viewer starts
DEPTH = 2  # levels of modules that get a group


@dataclass(frozen=True)
class Variable:
    """A variable of a VCD: its scopes, its name, its name as GTKWave knows it, and its width."""

    scopes: tuple[str, ...]
    name: str
    reference: str
    bits: int

    @property
    def path(self) -> str:
        return ".".join((*self.scopes, self.reference))

    @property
    def fp32(self) -> bool:
        name = self.name.removeprefix("job_")
        return name in FP32 and self.bits % 32 == 0


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


def write_save_file(vcd: Path) -> Path:
    """Write the save file of ``vcd`` beside it, NAME.gtkw, and return its path: `gtkwave NAME.gtkw` shows both."""
    path = vcd.with_suffix(".gtkw")
    groups: dict[tuple[str, ...], list[Variable]] = {}
    for variable in variables(vcd):
        if variable.scopes and len(variable.scopes) <= DEPTH:
            groups.setdefault(variable.scopes, []).append(variable)
    with open(path, "w", encoding="utf-8") as file:
        save = GTKWSave(file)
        save.dumpfile(str(vcd))
        save.sst_expanded(True)
        for index, (scopes, members) in enumerate(groups.items()):
            with save.group(".".join(scopes), closed=index >= OPEN_SCOPES):
                _show(save, members)
    return path


def _show(save: GTKWSave, members: Iterable[Variable]) -> None:
    for variable in members:
        if not variable.fp32:
            save.trace(variable.path, datafmt="bin" if variable.bits == 1 else "hex")
        elif variable.bits == 32:
            save.trace(variable.path, datafmt="real")
        else:
            for lane in range(variable.bits // 32):
                first = variable.bits - 32 * (lane + 1)  # bits of a combined trace count from the top
                save.trace_combined(f"{variable.name}.{lane}", [(first + i, variable.path) for i in range(32)],
                                    datafmt="real")
