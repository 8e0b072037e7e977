# SPDX-License-Identifier: Apache-2.0
"""Memory banks that the streams of a descriptor use, and where words of a beat meet in one."""

from dataclasses import dataclass

from hls.config import Config


@dataclass(frozen=True)
class Banks:
    """Per stream, the memory bank of each word of a beat; () where no two words of a beat meet in a bank.

    Streams of the same bank wait for each other. ``weights`` may lie in several banks: (word behind the piece, its
    entry), in order. A negative bank, -1 - number, is one of an interleaved group, and is the first beat's only;
    `addresses` of load, store and aux then say where the others lie.
    """

    load: tuple[int, ...] = ()
    weights: tuple[tuple[int, tuple[int, ...]], ...] = ()
    params: tuple[int, ...] = ()
    store: tuple[int, ...] = ()
    aux: tuple[int, ...] = ()
    fetch: tuple[int, ...] = ()
    addresses: tuple[int, int, int] = (0, 0, 0)
    table: tuple[int, ...] = ()

    @property
    def contended(self) -> bool:
        own = (self.load, self.params, self.store, self.aux, self.fetch, self.table)
        return any((*own, *(entry for _, entry in self.weights)))

    def weight(self, word: int) -> tuple[int, ...]:
        """Entry of the weights from ``word`` on."""
        return next((entry for end, entry in self.weights if word < end), ())


def word_banks(address: int, stride: int, config: Config) -> tuple[int, ...]:
    """An entry of `Banks`: where a beat at byte ``address`` with words ``stride`` apart meets itself."""
    bank = config.bank_bytes
    if config.ports == 1:
        return ()
    if address < config.contiguous_bytes:
        return (address // bank,) * config.ports
    first = config.contiguous_bytes
    for size in config.memory_banks_interleaved:
        if address < first + size * bank:
            words = tuple(((address - first) // 4 + i * stride) % size for i in range(config.ports))
            return () if len(set(words)) == len(words) else tuple(-1 - w for w in words)
        first += size * bank
    return ()


def bank_runs(address: int, words: int, config: Config) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """`Banks.weights` of ``words`` words from byte ``address`` on."""
    bank, at = config.bank_bytes, 0
    result: list[tuple[int, tuple[int, ...]]] = []
    while at < words:
        entry = word_banks(address + 4 * at, 1, config)
        at = min(words, ((address + 4 * at) // bank * bank + bank - address) // 4)
        if result and result[-1][1] == entry:
            result.pop()
        result.append((at, entry))
    return tuple(result)
