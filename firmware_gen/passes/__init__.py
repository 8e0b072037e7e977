# SPDX-License-Identifier: Apache-2.0
"""Graph passes: each is a function Graph -> Graph in its own file; `run_passes` is the one pipeline."""

from firmware_gen.ir import Graph
from firmware_gen.passes.batchnorm import fold_batchnorm
from firmware_gen.passes.border import append_softmax, with_channels_last
from firmware_gen.passes.comparisons import compute_comparisons
from firmware_gen.passes.edits.cleanup import drop_dead, drop_identities, merge_concats
from firmware_gen.passes.functions import (
    check_functions,
    compute_elementary,
    find_functions,
    fuse_hardsigmoids,
    split_functions,
)
from firmware_gen.passes.fuse import fuse_activations
from firmware_gen.passes.hardware.planes import split_matmuls
from firmware_gen.passes.hardware.products import split_products
from firmware_gen.passes.hardware.turned import turn_maps
from firmware_gen.passes.movement.permutes import find_shuffles, merge_permutes, raise_permutes
from firmware_gen.passes.movement.reshapes import find_maps, merge_reshapes, sink_reshapes
from firmware_gen.passes.movement.strides import absorb_strides, merge_strides, move_elements
from firmware_gen.passes.residual import combine_rows, fuse_residuals
from firmware_gen.passes.rows import raise_rows
from firmware_gen.passes.statistics import split_statistics
from firmware_gen.passes.windows import merge_pads, merge_slices
from hls.errors import HeepgenError

PIPELINE = (
    drop_dead,
    drop_identities,
    merge_reshapes,
    find_functions,
    compute_comparisons,
    compute_elementary,
    check_functions,
    find_shuffles,
    raise_permutes,
    merge_permutes,
    merge_concats,
    fold_batchnorm,
    merge_slices,
    merge_pads,
    fuse_hardsigmoids,
    fuse_activations,
    merge_permutes,  # those that an activation kept apart
    merge_reshapes,
    sink_reshapes,
    combine_rows,
    merge_reshapes,
    fuse_residuals,
    move_elements,
    merge_strides,
    absorb_strides,
    raise_rows,
    find_maps,
)


def run_passes(graph: Graph) -> Graph:
    """Lower an imported graph to what the back end reads (see `ir`): HeepgenError names what cannot be."""
    for one_pass in PIPELINE:
        graph = one_pass(graph)
    for number, value in enumerate(graph.results):
        if value in graph.inputs:
            raise HeepgenError(
                f"the model {graph.name} computes nothing for output {number}, it returns its input: "
                "leave that out of what it returns"
            )
    return graph


__all__ = [
    "PIPELINE",
    "absorb_strides",
    "append_softmax",
    "combine_rows",
    "compute_comparisons",
    "check_functions",
    "compute_elementary",
    "drop_dead",
    "drop_identities",
    "find_functions",
    "find_maps",
    "find_shuffles",
    "fold_batchnorm",
    "fuse_activations",
    "fuse_hardsigmoids",
    "fuse_residuals",
    "merge_concats",
    "merge_pads",
    "merge_permutes",
    "merge_reshapes",
    "merge_slices",
    "merge_strides",
    "move_elements",
    "raise_permutes",
    "raise_rows",
    "run_passes",
    "sink_reshapes",
    "split_functions",
    "split_matmuls",
    "split_products",
    "split_statistics",
    "turn_maps",
    "with_channels_last",
]
