# SPDX-License-Identifier: Apache-2.0
"""What groups of layers that take turns need: the rings between them, and more descriptors."""

from collections.abc import Mapping, Sequence

from firmware_gen.targets.descriptor.lowering.depth_first import Group, Link, Rows, ring_rows, turns
from hls.config import Config


class Rings:
    """Of groups whose steps have `links`; known once they were asked for."""

    def __init__(self, links: Mapping[int, Link], config: Config) -> None:
        self._links, self._least = links, 1 << (config.ports - 1).bit_length()
        self._rings: dict[Group, list[tuple[Link, int]]] = {}
        self._turns: dict[Group, list[tuple[int, int, int]]] = {}

    def links(self, group: Group) -> list[Link]:
        """Those between the layers that take turns by rings."""
        return [self._links[step] for step in group.turning[:-1]]

    def layers(self, group: Group) -> list[Rows]:
        """The layers that take turns by rings."""
        links = self.links(group)
        return [links[0].source, *(link.reader for link in links)] if links else []

    def turns(self, group: Group) -> list[tuple[int, int, int]]:
        """`depth_first.turns`."""
        if group not in self._turns:
            self._turns[group] = turns(self.layers(group), group)
        return self._turns[group]

    def of(self, group: Group) -> list[tuple[Link, int]]:
        """Links of a group with the words of their rings."""
        if group not in self._rings:
            links = self.links(group)
            rows = ring_rows(self.layers(group), self.turns(group)) if links else []
            words = (max(n * link.row_words, self._least) for link, n in zip(links, rows, strict=True))
            self._rings[group] = [(link, 1 << (n - 1).bit_length()) for link, n in zip(links, words, strict=True)]
        return self._rings[group]

    def bytes(self, group: Group) -> int:
        """Of a group's rings."""
        return sum(4 * words for _, words in self.of(group))

    def more_descriptors(self, group: Group, whole: Sequence[int]) -> int:
        """By which layers that take turns have more, at most, than as a whole, `whole` by step: each piece has as
        many."""
        if group.by_channels:  # two ranges
            return len(group.steps)
        pieces = [layer for layer, _, _ in self.turns(group)]
        poolings = pieces.count(pieces[-1]) if group.pooled else 0
        own = sum(whole[group.steps[layer]] for layer in pieces)
        return own + poolings - sum(whole[step] for step in group.steps)
