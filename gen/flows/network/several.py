# SPDX-License-Identifier: Apache-2.0
"""Several networks in one application: `heepgen sw a.pt2 b.pt2`, and what other commands do with that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from firmware_gen.application.options import note
from firmware_gen.emit.folder import application_folder
from gen.flows.network.application import Applications, check_other, wanted
from gen.flows.network.compiled import Compiled, application_in, folder_in, of_application
from gen.flows.network.estimate import estimate, estimate_program
from gen.flows.network.sw import compile_model
from gen.results.estimate import EstimateReport
from gen.results.several import EstimateReports, SwReports
from hls.config import System
from hls.errors import HeepgenError
from hls.output import fill

if TYPE_CHECKING:
    from firmware_gen.several import Several

OF_ONE = ("name", "sample", "input_shape", "state", "stream", "time_axis", "bias_correction", "data", "max_loss")
"""Options of `generate_sw` that are about one network."""


def generate_several(
    targets: Sequence[str | Path],
    config: System,
    out: str | Path,
    *,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    force: bool = False,
    listing: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    explain: Callable[[Any], None] = lambda table: None,
    **importing: Any,
) -> SwReports:
    """Write the firmware of several networks, which take turns in one arena, to the folder `out`; options, errors and
    what is replaced as of `generate_sw`.

    `targets` are model files, which `importing` is for, and applications of one network, which stay as they were
    imported, with their samples; where the command says nothing of the hardware it is that of the first application.
    """
    refuse_options_of_one(targets, importing)
    opened = [application_in(target, importing) for target in targets]
    first = next((application for application in opened if application), None)
    if first is not None:
        config = wanted(config, first, hardware_given, architecture_given, changed)
    networks = []
    for target, application in zip(targets, opened, strict=True):
        progress(f"compiling {target}")
        networks.append(
            of_application(application, config) if application else compile_model(target, config, **importing)
        )
        explain(networks[-1].explanation.table())
    progress("running them in PyTorch and in the bit-exact model")
    return write_several(networks, out, force=force, listing=listing)


def write_several(
    networks: Sequence[Compiled], out: str | Path, *, force: bool = False, listing: bool = False
) -> SwReports:
    """`generate_several` of networks that are compiled."""
    check_other(out, several=True)
    several = together(networks)
    notes = {network.name: note(network.name, network.options) for network in networks}
    with application_folder(out, force=force, note={"networks": notes}) as folder:
        application = several.application(listing=listing)
        fill(folder, application.files)
    pairs = zip(networks, application.networks, strict=True)
    return SwReports(tuple(network.report(files) for network, files in pairs))


def together(networks: Sequence[Compiled]) -> "Several":
    """The networks with their places in one program."""
    from firmware_gen.several import Member, Several

    return Several([Member(network.generator, network.options.append_final_softmax) for network in networks])


def estimate_any(
    target: str | Path,
    config: System,
    *,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    progress: Callable[[str], None] = lambda message: None,
    **importing: Any,
) -> EstimateReport | EstimateReports:
    """`gen.flows.network.estimate.estimate`, or the same of every network of an application, where it is in the program
    of all."""
    hardware: dict[str, Any] = {
        "hardware_given": hardware_given,
        "architecture_given": architecture_given,
        "changed": changed,
    }
    found = folder_in(target, importing) if Path(target).is_dir() else None
    if not isinstance(found, Applications):
        return estimate(target, config, progress=progress, **hardware, **importing)
    system = wanted(config, found, **hardware)
    progress(f"compiling {target}")
    networks = [of_application(application, system) for application in found.networks]
    progress("stepping them through the cycle model")
    return estimate_networks(networks)


def estimate_networks(networks: Sequence[Compiled]) -> EstimateReports:
    """Estimates of networks with their places in one program."""
    several = together(networks)
    reports: list[EstimateReport] = [
        estimate_program(network.generator.target, program)
        for network, program in zip(networks, several.programs, strict=True)
    ]
    return EstimateReports(tuple(reports))


def refuse_options_of_one(targets: Sequence[str | Path], given: Mapping[str, Any]) -> None:
    """Raises `HeepgenError` for options, by name, that are about one network, where several are named."""
    about = [name for name in OF_ONE if given.get(name) is not None]
    if given.get("weights") not in (None, "int8", "int4"):
        about.append("weights")
    if about:
        raise HeepgenError(
            f"--{about[0].replace('_', '-')} is about one network, and {len(targets)} are named: generate that one by "
            "itself with it, and name its folder here."
        )
