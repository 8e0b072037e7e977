# SPDX-License-Identifier: Apache-2.0
"""How a model becomes firmware."""

from dataclasses import dataclass
from typing import Any

from hls.errors import HeepgenError

LAYOUTS = ("nchw", "nhwc")
"""Of maps in memory: PyTorch's order, or channels last."""


@dataclass(frozen=True)
class ImportOptions:
    """How a model becomes firmware; kept in the folder, so that it can be generated again for another input. `biases`
    are those in place of the model's, by layer name; `state`: see `import_program`; `stream`: new frames a call,
    along dimension `time_axis` of the input, None without. `input_layout`: how maps among the inputs lie in memory,
    one of LAYOUTS; `output_layout`: among the outputs, as the inputs where it is None. `int4`: layers whose weights
    have 4 bits."""

    append_final_softmax: bool = False
    per_tensor: bool = False
    calibrate: str = "max"
    biases: dict[str, list[float]] | None = None
    state: dict[str, str] | None = None
    stream: int | None = None
    time_axis: int | None = None
    input_layout: str = "nchw"
    output_layout: str | None = None
    int4: list[str] | None = None

    def __post_init__(self) -> None:
        if self.time_axis is not None and self.stream is None:
            raise HeepgenError(
                f"time_axis = {self.time_axis}: says along what a stream goes; give stream, or leave it out."
            )

    @property
    def channels_last(self) -> tuple[bool, bool]:
        """Whether channels are last in memory, of inputs and of outputs; raises `HeepgenError` for another layout."""
        given = {"input_layout": self.input_layout, "output_layout": self.output_layout or self.input_layout}
        for name, layout in given.items():
            if layout not in LAYOUTS:
                raise HeepgenError(f"{name} = {layout!r}: must be {' or '.join(map(repr, LAYOUTS))}.")
        inputs, outputs = (layout == "nhwc" for layout in given.values())
        return inputs, outputs


def note(name: str, options: ImportOptions) -> dict[str, Any]:
    """What the marker of an application's folder says of the network, besides kind and files."""
    return {"name": name, "options": vars(options)}
