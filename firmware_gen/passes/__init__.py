"""Graph passes: each is a function Graph -> Graph in its own file; `run_passes` is the one pipeline."""

from firmware_gen.ir import Graph
from firmware_gen.passes.batchnorm import fold_batchnorm
from firmware_gen.passes.cleanup import drop_dead, drop_identities
from firmware_gen.passes.fuse import fuse_activations
from firmware_gen.passes.pads import merge_pads
from firmware_gen.passes.reshapes import find_maps, merge_reshapes
from firmware_gen.passes.softmax import append_softmax, check_softmax
from hls.errors import HeepgenError

PIPELINE = (
    drop_dead,
    drop_identities,
    merge_reshapes,
    fold_batchnorm,
    merge_pads,
    fuse_activations,
    find_maps,
    check_softmax,
)


def run_passes(graph: Graph) -> Graph:
    """Lower an imported graph to what the back end reads (see `ir`): HeepgenError names what cannot be."""
    for one_pass in PIPELINE:
        graph = one_pass(graph)
    if not graph.nodes:
        raise HeepgenError(f"the model {graph.name} computes nothing: it returns its input")
    return graph


__all__ = [
    "PIPELINE",
    "append_softmax",
    "check_softmax",
    "drop_dead",
    "drop_identities",
    "find_maps",
    "fold_batchnorm",
    "fuse_activations",
    "merge_pads",
    "merge_reshapes",
    "run_passes",
]
