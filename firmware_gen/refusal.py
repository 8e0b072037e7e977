# SPDX-License-Identifier: Apache-2.0
"""The one form of every refusal of a model."""

from collections.abc import Iterable, Sequence

from firmware_gen.names import one_line, safe_name
from hls.errors import HeepgenError

LONGEST = 60
"""Characters of an operator's name, or of a name of an input, that a message shows."""


def refusal(layer: str, op: str, reason: str) -> HeepgenError:
    """An error naming the layer, its operator and the reason, which also says what to do."""
    return HeepgenError(
        f"layer {one_line(layer)}: {one_line(op)[:LONGEST]}: {reason} (what is supported: docs/operators.md)"
    )


def first_line(error: Exception) -> str:
    """Of its message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0].rstrip(".")) if lines else type(error).__name__


def too_few_inputs(names: Sequence[str], given: int) -> HeepgenError:
    """The message for a model that takes these inputs, and is given examples of so many."""
    some = _some(names)
    return HeepgenError(
        f"the model has {len(names)} inputs ({some}), {given} {'is' if given == 1 else 'are'} given: give an example "
        "of each, as a tuple"
    )


def _some(names: Iterable[str]) -> str:
    names = [safe_name(name)[:LONGEST] for name in names]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def not_one_input(names: Iterable[str]) -> HeepgenError:
    """The message for a model that takes these inputs instead of one tensor."""
    names = list(names)
    if not names:
        return HeepgenError("the model has no input: it must take one tensor")
    return HeepgenError(
        f"the model has {len(names)} inputs ({_some(names)}): one is supported; wrap it in a module that takes "
        "one tensor and holds the others as buffers, or export the parts that take one tensor each"
    )
