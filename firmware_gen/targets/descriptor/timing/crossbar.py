# SPDX-License-Identifier: Apache-2.0
"""From an accepted request to its answer: arbiter, ports, and the crossbar with its banks."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

from hls.descriptor.interface.timing import ANSWER, COLLECTED, MEMORY, OUTSTANDING, QUEUED

MASTERS, FIRST_MASTER = 16, 9  # X-HEEP's crossbar: masters that its arbiters are made for, place of port 0
_BITS = tuple(1 << place for place in range(FIRST_MASTER, MASTERS))  # of the ports, and which port has a bit alone
_PORTS = {bit: port for port, bit in enumerate(_BITS)}


class Uncontended:
    """Memory in which no beat waits for another."""

    def ready(self, t: int) -> bool:
        return True

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        deliver(t + ANSWER)

    def step(self, t: int) -> None:
        pass


class _Command:
    """A beat: the bank of each word, words not granted yet, the cycle of the last grant."""

    __slots__ = ("banks", "deliver", "granted", "missing", "words")

    def __init__(self, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]):
        self.banks, self.words, self.deliver = banks, words, deliver
        self.missing, self.granted = words, 0


def meet(banks: tuple[int, ...]) -> bool:
    """Whether words of a beat are in one bank."""
    return len(set(banks)) < len(banks)


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
        self.active = self.moves = False  # whether there are commands, and whether those that are held may go on
        self.answered: deque[int] = deque()  # cycles in which beats leave the list of those due
        self.favoured: dict[int, int] = {}
        self.in_step = True  # no port lags: all take the same beat, and what port 0 has stands for them

    def _room(self, t: int) -> bool:
        answered = self.answered
        while answered and answered[0] < t:
            answered.popleft()
        due = len(self.order)  # in which what is queued is, too
        return due + len(answered) < OUTSTANDING and (due < QUEUED or max(map(len, self.queues)) < QUEUED)

    def ready(self, t: int) -> bool:
        """Whether a request is accepted in this cycle; asked once in each."""
        self.moves = self.held is None or self._room(t)
        return self.moves or self.picked is None

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        """``deliver`` learns the cycle of the answer as soon as that is known."""
        self.arriving = _Command(banks, words, deliver)
        self.active = True

    def step(self, t: int) -> None:
        if not self.active:
            return
        order = self.order
        if order:
            if not self.in_step or not self._grant_beat(t):
                self._grant(t)
            while order and not order[0].missing:
                command = order.popleft()
                self.completed = max(command.granted + MEMORY + COLLECTED - 1, self.completed + 1)
                self.answered.append(self.completed)
                command.deliver(self.completed + 1)
        if self.moves:
            held = self.held
            if held is not None:
                self.in_step = self.in_step or not order or (len(order) == 1 and order[0].missing == order[0].words)
                order.append(held)
                for queue in self.queues[: 1 if self.in_step else held.words]:
                    queue.append(held)
            self.held, self.picked = self.picked, self.arriving
        elif self.picked is None:
            self.picked = self.arriving
        self.arriving = None
        self.active = bool(order or self.picked or self.held)

    def _grant_beat(self, t: int) -> bool:
        """All words of the beat that ports in step request. If these meet, the ports get out of step, and have none."""
        requests, queues = self.requests, self.queues
        command = requests[0]
        if command is not None:
            banks = command.banks[: command.words]
            if meet(banks):
                self.in_step = False
                for port in range(1, len(queues)):
                    requests[port] = command if port < command.words else None
                    queues[port].extend(queued for queued in queues[0] if port < queued.words)
                return False
            command.missing, command.granted = 0, t
            for place, bank in enumerate(banks, FIRST_MASTER):
                self.favoured[bank] = place
        requests[0] = queues[0].popleft() if queues[0] else None
        return True

    def _grant(self, t: int) -> None:
        """A word of every bank that is requested gets it, and the ports without a request get the next ones."""
        requests, queues, favoured = self.requests, self.queues, self.favoured
        wanted: dict[int, int] = {}
        for port, command in enumerate(requests):
            if command is not None:
                bank = command.banks[port]
                wanted[bank] = wanted.get(bank, 0) | _BITS[port]
            elif queues[port]:
                requests[port] = queues[port].popleft()
        for bank, masters in wanted.items():
            if masters in _PORTS:
                port = _PORTS[masters]
                favoured[bank] = FIRST_MASTER + port
            else:
                place, favoured[bank] = arbitrate(masters, favoured.get(bank, 0))
                port = place - FIRST_MASTER
            command = requests[port]
            assert command is not None
            command.missing -= 1
            command.granted = t
            queue = queues[port]
            requests[port] = queue.popleft() if queue else None


def stream_cycles(beats: Sequence[tuple[int, ...]], ports: int) -> float:
    """Cycles per beat of a stream that asks for these, each word of a bank, whenever it may."""
    memory, answers = Ports(ports), list[int]()
    asked = t = 0
    while len(answers) < len(beats):
        if memory.ready(t) and asked < len(beats):
            memory.accept(t, beats[asked], len(beats[asked]), answers.append)
            asked += 1
        memory.step(t)
        t += 1
    half = len(beats) // 2
    return (answers[-1] - answers[half]) / max(len(beats) - 1 - half, 1)


@cache
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
