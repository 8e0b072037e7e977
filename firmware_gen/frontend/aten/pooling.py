# SPDX-License-Identifier: Apache-2.0
"""ATen pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.registry import handles, schema, window_size


@handles(
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    reads="self kernel_size stride padding dilation ceil_mode",
)
def _max_pool(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _pool(imp, node, a, kind="max", dilation=a["dilation"])


@handles(
    "avg_pool1d", "avg_pool2d", reads="self kernel_size stride padding ceil_mode count_include_pad divisor_override"
)
def _avg_pool(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    fields = {"count_include_pad": bool(a["count_include_pad"]), "divisor_override": a.get("divisor_override")}
    if fields["divisor_override"] == 0:
        raise imp.refuse(node, "divisor_override=0; use another number")
    return _pool(imp, node, a, kind="avg", dilation=1, **fields)


def _pool(imp: Importer, node: fx.Node, a: dict[str, Any], dilation: int | list[int], **fields: Any) -> str:
    flat = "1d" in schema(node).name
    imp.rank(node, a["self"], (3,) if flat else (4,), "(N, C, L)" if flat else "(N, C, H, W)")
    kernel = window_size(a["kernel_size"], flat, 1)
    top, left = window_size(a["padding"], flat, 0)
    return imp.emit(
        node,
        ir.Pool,
        a["self"],
        kernel=kernel,
        stride=window_size(a["stride"], flat, 1) if a["stride"] else kernel,
        pads=(top, left, top, left),
        dilation=window_size(dilation, flat, 1),
        ceil_mode=bool(a["ceil_mode"]),
        **fields,
    )


@handles(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    reads="self output_size",
)
def _adaptive_pool(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    name = schema(node).name
    flat = "1d" in name
    imp.rank(node, a["self"], (3,) if flat else (4,), "(N, C, L)" if flat else "(N, C, H, W)")
    size, outputs = imp.ir_shape(a["self"])[2:], window_size(a["output_size"], flat, 1)
    even = not any(s % o for s, o in zip(size, outputs, strict=True))
    kernel = tuple(
        s // o if even else max(-(-(i + 1) * s // o) - i * s // o for i in range(o))
        for s, o in zip(size, outputs, strict=True)
    )
    kind = "max" if "max" in name else "avg"
    return imp.emit(node, ir.Pool, a["self"], kind=kind, kernel=kernel, stride=kernel, adaptive=not even)
