# SPDX-License-Identifier: Apache-2.0
"""A network as every flow takes it: compiled for a configuration, from a model in memory, a file, or an application."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_gen.application.options import ImportOptions
from firmware_gen.emit.folder import MODEL
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application, Applications, linked_inputs, opened_folder
from gen.inputs import check_model
from gen.results.firmware import Explanation, SwReport
from hls.config import System
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from firmware_gen import ir
    from firmware_gen.api import CheckedModel, CodeGenerator, Files
    from firmware_gen.models.image import Sample


@dataclass(frozen=True)
class Compiled:
    """A network in every form that it takes, and how it was imported."""

    generator: "CodeGenerator"
    options: ImportOptions

    @classmethod
    def of(
        cls,
        model: "nn.Module | ExportedProgram | CheckedModel",
        sample: "Sample | None",
        config: System,
        options: ImportOptions,
        *,
        name: str,
    ) -> "Compiled":
        """Compile what `CodeGenerator` takes; raises `HeepgenError`."""
        from firmware_gen.api import CodeGenerator

        generator = CodeGenerator(
            model,
            sample,
            config=config,
            name=name,
            per_channel=not options.per_tensor,
            calibrate=options.calibrate,
            int4=options.int4 or (),
            state=options.state,
            stream=options.stream,
            time=options.time_axis,
            input_layout=options.input_layout,
            output_layout=options.output_layout,
            biases={layer: np.array(bias, np.float32) for layer, bias in (options.biases or {}).items()},
        )
        return cls(generator, options)

    @property
    def name(self) -> str:
        return self.generator.name

    @property
    def config(self) -> System:
        return self.generator.config

    @property
    def program(self) -> Any:
        """What the target compiled."""
        return self.generator.program(self.options.append_final_softmax)

    def complete(self, graph: "ir.Graph") -> "ir.Graph":
        """A graph of the generator with the Softmax that the options append."""
        from firmware_gen.passes import append_softmax

        return append_softmax(graph) if self.options.append_final_softmax else graph

    def application(
        self, sample: "Sample | None" = None, *, keep_activations: bool = False, listing: bool = False
    ) -> "Files":
        """All files of its application, see `CodeGenerator.application`."""
        softmax = self.options.append_final_softmax
        return self.generator.application(softmax, sample, keep_activations=keep_activations, listing=listing)

    def report(self, application: "Files") -> SwReport:
        """What `application` holds."""
        generator = self.generator
        return SwReport(
            network=self.name,
            geometry=geometry(self.config),
            input_shape=tuple(generator.sample.shape),
            outputs=tuple(application.manifest["outputs"]),
            layers=tuple(application.manifest["layers"]),
            memory=application.manifest["memory"],
            placements=self.explanation.placements,
            memory_text=application.memory_text,
            int4=self._int4(),
            import_check=generator.check.to_dict(),
            listing=application.listing.to_dict() if application.listing else None,
        )

    def _int4(self) -> dict[str, Any]:
        from firmware_gen.ir import Weighted, has_4_bits

        sizes = {
            n.name: (n.weight.size, has_4_bits(n.weight)) for n in self.generator.graph.nodes if isinstance(n, Weighted)
        }
        layers = [name for name, (_, few) in sizes.items() if few]
        return {
            "layers": layers,
            "weights": sum(sizes[name][0] for name in layers),
            "of": sum(size for size, _ in sizes.values()),
        }

    @property
    def explanation(self) -> Explanation:
        """What runs where, and why; nothing is compiled for it, unless there are two graphs to choose from."""
        generator = self.generator
        generator.choose_graph()
        placements = generator.target.explain(self.complete(generator.graph), generator.imported)
        return Explanation(self.name, tuple(placements))


def application_in(target: str | Path, given: dict[str, Any], instead: str = "") -> Application | None:
    """The application of one network in the folder `target`, None for a model file; see `folder_in`."""
    found = folder_in(target, given, instead)
    return Application.open(target) if isinstance(found, Applications) else found


def folder_in(target: str | Path, given: dict[str, Any], instead: str = "") -> Application | Applications | None:
    """The application in the folder `target`, None for a model file. Raises `HeepgenError` for what is neither, and for
    an application with options `given` that are for model files; `instead` says what there is besides."""
    if not Path(target).is_dir():
        check_model(target)
        return None
    application = opened_folder(target)
    defaults = vars(ImportOptions())
    for name, value in given.items():
        if value not in (None, False, defaults.get(name)):
            raise HeepgenError(
                f"--{name.replace('_', '-')} is for a model file, and {target} is firmware already: generate it again "
                f"with heepgen sw{instead}."
            )
    return application


def of_application(application: Application, config: System) -> Compiled:
    """The network of an application, compiled again for `config`."""
    from firmware_gen.frontend.loader import load_model

    program = load_model(application.generated / MODEL)
    name = application.manifest["name"]
    return Compiled.of(program, linked_inputs(application), config, application.options, name=name)
