# SPDX-License-Identifier: Apache-2.0
"""Random PyTorch models against PyTorch: `python -m tests.fuzz_torch 20000`, or `make fuzz`.

Every case agrees with PyTorch to 1e-5 of the largest output, or is refused in one sentence. What an earlier run stopped
at is continued with `--first`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from firmware_gen import CodeGenerator, ir
from firmware_gen.models.fake_quant import GraphModule
from gen.cluster import connected, spread
from hls.config import Config
from hls.errors import HeepgenError
from tests import bounds
from tests.random_torch import Case, draw_case

TOLERANCE = 1e-5
LONGEST = 400
CHUNK = 20
"""Seeds that a worker of a cluster takes at once."""
NOT_REFUSALS = (
    "computes something else",
    "what they leave out",
    "as it is used here",
    "cannot make the program functional",
    "does not accept",
    "cannot trace",
)
"""Words of refusals that no model made of supported operators may end in."""


def outcome(case: Case) -> str:
    """ "agrees", "agrees, folded" (weights that a neighbour's scale took off the INT8 grid: PyTorch runs the quantised
    network) or "refused"; AssertionError otherwise."""
    try:
        generator = CodeGenerator(case.model, case.x, config=Config())
        output = generator.reference().output
    except HeepgenError as error:
        message = str(error)
        assert len(message) < LONGEST and "\n" not in message, message
        assert not any(words in message for words in NOT_REFUSALS), message
        return "refused"
    model, folded = copy.deepcopy(case.model).double(), not _on_grid(generator)
    if folded:
        model = GraphModule(generator.graph, np.float64)
    with torch.no_grad():
        expected = model(case.x.double().clone()).numpy()
    assert output.shape == expected.shape, (output.shape, expected.shape)
    error = np.abs(output - expected).max() / max(float(np.abs(expected).max()), 1e-30)
    assert error <= TOLERANCE + bounds.of_tables(generator.graph), f"differs by {error:.3g} of the largest output"
    return "agrees, folded" if folded else "agrees"


def _on_grid(generator: CodeGenerator) -> bool:
    """Whether quantising changed no weight."""
    for node, quantised in zip(generator.lowered.nodes, generator.graph.nodes, strict=True):
        if isinstance(node, ir.Conv | ir.Linear):
            scale = quantised.scale.astype(np.float64).reshape(-1, *[1] * (node.weight.ndim - 1))
            if np.abs(quantised.weight * scale - node.weight).max() > 1e-6 * np.abs(node.weight).max():
                return False
    return True


def tried(seed: int) -> tuple[str, str]:
    """The outcome of a seed, and what failed."""
    case = draw_case(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return outcome(case), ""
    except Exception as error:
        return "failed", f"seed {seed}, {case.label}: {type(error).__name__} {error}"


def tried_together(_shared: None, seeds: Sequence[int]) -> list[tuple[str, str]]:
    """For a worker of a cluster."""
    torch.set_num_threads(1)
    return [tried(seed) for seed in seeds]


def run(first: int, count: int, progress=lambda text: None, scheduler: str | None = None) -> tuple[Counter, list[str]]:
    """Outcomes of the seeds from `first` on, and what failed; by the workers of a Dask scheduler where there is one."""
    counts, failures = Counter(), []
    seeds = range(first, first + count)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            results = map(tried, seeds)
        else:
            chunks = (seeds[at : at + CHUNK] for at in range(0, count, CHUNK))
            client = stack.enter_context(connected(scheduler))
            results = itertools.chain.from_iterable(spread(client, tried_together, chunks, None))
        for done, (found, failure) in enumerate(results, 1):
            counts[found] += 1
            if failure:
                failures.append(failure)
                progress(failure)
            if done % 500 == 0:
                progress(f"{done:,} of {count:,}: {summary(counts)}")
    return counts, failures


def summary(counts: Counter) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, its workers started with PYTHONPATH=. here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts, failures = run(options.first, options.count, lambda text: print(text, flush=True), options.scheduler)
    print(f"{sum(counts.values()):,} random PyTorch models: {summary(counts)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
