# SPDX-License-Identifier: Apache-2.0
"""What a network became, and what of it runs where."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from firmware_gen.ir.operator import Place
from firmware_gen.memory.planner import life
from firmware_gen.operations.placement import Placement
from gen.records import tables
from gen.records.result import Result
from gen.records.schema import ANYTHING, COUNT, FLAG, SHAPE, TEXT, Fields, Schema, each, record
from gen.records.tables import Column
from gen.results.runs.run import IMPORT_CHECK

_PLACEMENTS = each(
    record(
        {
            "name": (TEXT, "as in the model"),
            "op": (TEXT, "its operator"),
            "shape": (SHAPE, "of its output"),
            "where": ({"enum": list(Place)}, "array, CPU, memory (nothing moves), or merged (another layer does it)"),
            "why": (TEXT, "why there"),
            "macs": (COUNT, "multiply-accumulates"),
        }
    )
)


@dataclass(frozen=True, repr=False)
class Explanation(Result):
    """What runs where, and why."""

    network: str
    placements: tuple[Placement, ...]

    schema = Schema(
        "explain",
        "What runs where, and why",
        {"network": (TEXT, "its name"), "placements": (_PLACEMENTS, "every layer of the model")},
        call="Network.explain().to_dict()",
    )

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> RenderableType:
        result = tables.table(
            f"{self.network}: what runs where", ("layer", "operator", "output", "runs on", Column("why", wraps=True))
        )
        for p in self.placements:
            result.add_row(p.name, p.op, tables.shape(p.shape), p.where, p.why)
        return result


_LAYER = record(
    {
        "name": (TEXT, "as in the model"),
        "op": (TEXT, "its operator"),
        "in_shape": (SHAPE, "of its first input"),
        "shape": (SHAPE, "of its output"),
        "macs": (COUNT, "multiply-accumulates"),
        "bound_cycles": (COUNT, "what array and bus allow: max(vectors, bus words / ports); 0 where it is not known"),
        "on_cpu": (FLAG, "whether the CPU computes it"),
        "descriptors": (each(COUNT), "numbers of its descriptors"),
        "output": (ANYTHING, "where its output lies, as in manifest.json"),
    },
    others=ANYTHING,
)
_PLACED: Fields = {"name": (TEXT, "of it"), "address": (COUNT, "of its first byte"), "size": (COUNT, "bytes")}
_STEP = {"type": "integer", "minimum": -1}
_MEMORY = record(
    {
        "network": (TEXT, "its name"),
        "total_bytes": (COUNT, "of RAM"),
        "constant_bytes": (COUNT, "weights, parameters and descriptors"),
        "weight_bytes": (COUNT, "weights alone"),
        "activation_bytes": (COUNT, "all activations together"),
        "arena_bytes": (COUNT, "what they take, since some take the place of others"),
        "program_bytes": (COUNT, "kept for the program"),
        "peak_bytes": (COUNT, "activations alive at once, at most"),
        "peak_step": (TEXT, "the layer in which they are"),
        "working_set_bytes": (COUNT, "what the largest layer reads and writes by itself"),
        "banks_needed": (
            {"type": "array", "prefixItems": [COUNT, each(COUNT)], "items": False},
            "the smallest memory that would do: contiguous banks, groups of interleaved ones",
        ),
        "steps": (each(TEXT), "layers; lives of buffers count them from 0, -1 is the call"),
        "buffers": (
            each(
                record(
                    {**_PLACED, "born": (_STEP, "number in `steps`"), "dies": (_STEP, "number in `steps`")},
                    others=ANYTHING,
                )
            ),
            "of the arena",
        ),
        "constants": (each(record(_PLACED, others=ANYTHING)), "weights, parameters and descriptors"),
        "fits": (FLAG, "whether the configured memory holds all of it"),
    }
)
_SW: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "input_shape": (SHAPE, "of the input, batch dimension first"),
    "outputs": (
        each(
            record(
                {
                    "shape": (SHAPE, "of the output"),
                    "channels_last": (FLAG, "whether it lies in memory with its channels last"),
                    "layer": (TEXT, "that computes it"),
                }
            )
        ),
        "what the network returns",
    ),
    "layers": (each(_LAYER), "every layer, in the order of execution; further keys depend on the architecture"),
    "memory": (_MEMORY, "the memory plan"),
    "placements": (_PLACEMENTS, "what runs where, and why"),
    "int4": (
        record(
            {
                "layers": (each(TEXT), "whose weights need 4 bits only"),
                "weights": (COUNT, "in these"),
                "of": (COUNT, "weights in all layers"),
            }
        ),
        "weights of 4 bits",
    ),
    "import_check": (IMPORT_CHECK, "how the import compares with the model's own program"),
    "listing": (ANYTHING, "with --listing: what every descriptor does"),
}


@dataclass(frozen=True, repr=False)
class SwReport(Result):
    """What was generated: outputs with the layers that compute them, layers with their MACs, the memory report of
    the plan, and how the import compares with the model's program (`verify.Check`)."""

    network: str
    geometry: str
    input_shape: tuple[int, ...]
    outputs: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    memory: dict[str, Any]
    placements: tuple[Placement, ...]
    memory_text: str
    int4: dict[str, Any]
    import_check: dict[str, Any]
    listing: dict[str, Any] | None = None

    schema = Schema("sw", "The firmware of a network", _SW, optional={"listing"})

    def content(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "memory_text" and (k != "listing" or v is not None)}

    def table(self) -> RenderableType:
        result = tables.table(
            f"{self.network} for {self.geometry}",
            ("layer", "operator", "output"),
            ("MACs", "descriptors", "bound, cycles"),
        )
        for layer in self.layers:
            counts = (layer["macs"], len(layer["descriptors"]), layer["bound_cycles"])
            result.add_row(layer["name"], layer["op"], tables.shape(layer["shape"]), *map(tables.count, counts))
        check = Text(self.import_check["text"], style="dim")
        return Group(result, *self._int4(), Text(self.memory_text), self._buffers(), check)

    def _int4(self) -> list[Text]:
        if not self.int4["layers"]:
            return []
        share = 100 * self.int4["weights"] / self.int4["of"]
        return [Text(f"weights of 4 bits: {share:.1f} % of all, in {', '.join(self.int4['layers'])}")]

    def _buffers(self) -> tables.Table:
        """Where every activation lies, and its life as a bar."""
        result = tables.table("", ("activation", "address", Column("life", 1)), ("bytes",))
        for b in self.memory["buffers"]:
            bar = life(b, len(self.memory["steps"]))
            result.add_row(b["name"], f"{b['address']:#010x}", bar, f"{b['size']:,}")
        return result
