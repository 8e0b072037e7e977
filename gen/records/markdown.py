# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from collections.abc import Iterator, Sequence


def number_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose first column says what the others, which are aligned at their right, are of; an empty one
    ends it."""
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in body)
    yield ""
