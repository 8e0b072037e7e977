# SPDX-License-Identifier: Apache-2.0
"""From an accepted request to its answer: arbiter, ports, and the crossbar with its banks."""

from collections import deque
from collections.abc import Callable, Sequence

from hls.descriptor.interface.timing import ANSWER, COLLECTED, MEMORY, OUTSTANDING, QUEUED

MASTERS, FIRST_MASTER = 16, 9  # X-HEEP's crossbar: masters that its arbiters are made for, place of port 0


class Uncontended:
    """Memory in which no beat waits for another."""

    def ready(self, t: int) -> bool:
        return True

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        deliver(t + ANSWER)

    def step(self, t: int) -> None:
        pass


class _Command:
    """A beat: the bank of each word (None: its own), words not granted yet, the cycle of the last grant."""

    def __init__(self, banks: Sequence[int | None], deliver: Callable[[int], None]):
        self.banks, self.deliver = banks, deliver
        self.missing, self.granted = len(banks), 0


class Ports:
    """Arbiter, `memory.ports` and the crossbar: ports that lag behind each other, and banks that they share."""

    def __init__(self, ports: int):
        self.picked: _Command | None = None
        self.held: _Command | None = None
        self.arriving: _Command | None = None
        self.queues: list[deque[_Command]] = [deque() for _ in range(ports)]
        self.requests: list[_Command | None] = [None] * ports
        self.order: deque[_Command] = deque()
        self.completed = 0
        self.answered: deque[int] = deque()  # cycles in which beats leave the list of those due
        self.favoured: dict[int, int] = {}

    def _room(self, t: int) -> bool:
        while self.answered and self.answered[0] < t:
            self.answered.popleft()
        return len(self.order) + len(self.answered) < OUTSTANDING and max(map(len, self.queues)) < QUEUED

    def ready(self, t: int) -> bool:
        """Whether a request is accepted in this cycle."""
        return self.picked is None or self.held is None or self._room(t)

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        """``deliver`` learns the cycle of the answer as soon as that is known."""
        self.arriving = _Command(list(banks[:words]) or [None] * words, deliver)

    def step(self, t: int) -> None:
        if not (self.arriving or self.picked or self.held or self.order):
            return
        room = self.held is None or self._room(t)
        wanted: dict[int, int] = {}
        granted = []
        for port, command in enumerate(self.requests):
            if command is not None:
                bank = command.banks[port]
                if bank is None:
                    granted.append(port)
                else:
                    wanted[bank] = wanted.get(bank, 0) | 1 << (FIRST_MASTER + port)
        for bank, masters in wanted.items():
            place, favoured = arbitrate(masters, self.favoured.get(bank, 0))
            self.favoured[bank] = favoured
            granted.append(place - FIRST_MASTER)
        for port in granted:
            command = self.requests[port]
            assert command is not None
            command.missing -= 1
            command.granted = t
            self.requests[port] = None
        for port, queue in enumerate(self.queues):
            if queue and self.requests[port] is None:
                self.requests[port] = queue.popleft()
        while self.order and not self.order[0].missing:
            command = self.order.popleft()
            self.completed = max(command.granted + MEMORY + COLLECTED - 1, self.completed + 1)
            self.answered.append(self.completed)
            command.deliver(self.completed + 1)
        if room:
            if self.held is not None:
                self.order.append(self.held)
                for port in range(len(self.held.banks)):
                    self.queues[port].append(self.held)
            self.held, self.picked = self.picked, self.arriving
        elif self.picked is None:
            self.picked = self.arriving
        self.arriving = None


def stream_cycles(beats: Sequence[tuple[int, ...]], ports: int) -> float:
    """Cycles per beat of a stream that asks for these, each word of a bank, whenever it may."""
    memory, answers = Ports(ports), list[int]()
    asked = t = 0
    while len(answers) < len(beats):
        if asked < len(beats) and memory.ready(t):
            memory.accept(t, beats[asked], len(beats[asked]), answers.append)
            asked += 1
        memory.step(t)
        t += 1
    half = len(beats) // 2
    return (answers[-1] - answers[half]) / max(len(beats) - 1 - half, 1)


def arbitrate(wanted: int, favoured: int) -> tuple[int, int]:
    """(the master that a bank of X-HEEP's crossbar takes, the one favoured next) of a bit per master that asks.

    A tree of multiplexers takes, where both halves ask, the one that the favoured master is in.
    """
    chosen, half = 0, MASTERS // 2
    while half:
        side = (1 << half) - 1
        lower, upper = wanted >> chosen & side, wanted >> (chosen + half) & side
        if not lower or (upper and favoured & half):
            chosen += half
        half //= 2
    above = wanted & ~((2 << favoured) - 1) or wanted
    return chosen, (above & -above).bit_length() - 1
