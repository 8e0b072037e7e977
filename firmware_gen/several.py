# SPDX-License-Identifier: Apache-2.0
"""Several networks in one application: all their constants, and one arena in which they take turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from firmware_gen.api import CodeGenerator, Files
from firmware_gen.emit import shared
from firmware_gen.memory.network import Network
from firmware_gen.memory.planner import PROGRAM_BYTES, locate_together
from hls.errors import HeepgenError
from hls.output import Content

CODE_BYTES = 4 * 1024
"""Room kept for the code of every network but the first, whose is in PROGRAM_BYTES; the linker checks the real size."""


@dataclass(frozen=True)
class Member:
    """One of the networks, before it has its place among the others."""

    generator: CodeGenerator
    append_final_softmax: bool = False

    @property
    def name(self) -> str:
        return self.generator.name

    @cached_property
    def program(self) -> Any:
        return self.generator.program(self.append_final_softmax, shared=True)

    @cached_property
    def software(self) -> Any:
        return self.generator.target.software(self.program, keep_inputs=False)

    @property
    def network(self) -> Network:
        return self.generator.target.network(self.program)

    @property
    def check_bytes(self) -> int:
        """Of its sample, the bits that outputs must have, and what is kept of outputs and profile."""
        network = self.network
        tensors = {tensor.storage for tensor in network.tensors.values()}
        profile: int = sum(buffer["size"] for buffer in network.report.buffers if buffer["name"] not in tensors)
        return profile + 4 * sum(t.size for t in (*network.inputs, *network.outputs, *network.outputs))


@dataclass(frozen=True)
class SeveralFiles:
    """An application of several networks: contents by name, the manifest of the whole, and what `Files` say of each."""

    files: dict[str, Content]
    manifest: dict[str, Any]
    networks: tuple[Files, ...]


class Several:
    """Networks of one configuration in one program. Raises HeepgenError naming the network that cannot be there, or
    finds no place beside those before it."""

    def __init__(self, members: Sequence[Member]):
        self.members = tuple(members)
        if len(self.members) < 2:
            raise HeepgenError("an application of several networks needs two of them at least.")
        self.config = self.members[0].generator.config
        for member in self.members:
            if member.generator.config != self.config:
                raise HeepgenError(
                    f"{self.members[0].name} and {member.name} were compiled for different configurations: compile all "
                    "networks of one program for the same accelerator and memory."
                )
        folders: dict[str, str] = dict.fromkeys(shared.TAKEN, "heepgen's own files")
        for member in self.members:
            folder = shared.folder_of(member.name)
            if folder.lower() in folders:
                raise HeepgenError(
                    f"{member.name} and {folders[folder.lower()]} would both have the name {folder} in C++: generate "
                    "one by itself with another --name, and name its folder here."
                )
            folders[folder.lower()] = member.name
            if state := member.generator.graph.state:
                raise HeepgenError(
                    f"{member.name} keeps a state from one call to the next ({state[0].name}), which the other "
                    "networks would overwrite: give it an application by itself."
                )

    @cached_property
    def _placed(self) -> list[tuple[Any, Any]]:
        """Programs of the accelerator and of the CPU alone, each in its place."""
        room = PROGRAM_BYTES + CODE_BYTES * (len(self.members) - 1) + sum(m.check_bytes for m in self.members)
        shares = locate_together([m.network.demand() for m in self.members], self.config, room)
        plain = locate_together([m.software.demand() for m in self.members], self.config, room)
        return [
            (m.generator.target.moved(m.program, share), m.software.moved(own))
            for m, share, own in zip(self.members, shares, plain, strict=True)
        ]

    @property
    def programs(self) -> list[Any]:
        """Of every network, what its target compiled."""
        return [program for program, _ in self._placed]

    def application(self, *, listing: bool = False) -> SeveralFiles:
        """All files: of every network in a folder with its name in C++, beside what they share."""
        networks = tuple(
            m.generator.files_of(program, m.append_final_softmax, listing=listing, beside=software)
            for m, (program, software) in zip(self.members, self._placed, strict=True)
        )
        arenas = {
            "accelerator": max(m.network.arena_bytes for m in self.members),
            "software": max(m.software.network.arena_bytes for m in self.members),
        }
        files, manifest = shared.render([(own.files, own.manifest) for own in networks], arenas, self.config)
        return SeveralFiles(files, manifest, networks)
