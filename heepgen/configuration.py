# SPDX-License-Identifier: Apache-2.0
"""Configurations of accelerators, in every form in which Python has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from firmware_gen.architectures.registry import load_config
from hls.config import System, options, overridden
from hls.errors import HeepgenError

Given = System | Mapping[str, Any] | str | Path | None


def configuration(config: Given = None, *, architecture: str | Path | None = None, **values: Any) -> System:
    """The accelerator of `config`, with other `values`, such as rows=4, cols=4, arithmetic="fma".

    config: a configuration; options as in the file, `{"systolic_array": {"rows": 4}}`, or by the names that `values`
    have; the path of an hjson file; or None for the defaults. architecture: a name of `heepgen architectures`, or the
    folder of one, whose architecture.py is run. Raises HeepgenError for what is no option, and for values out of range.
    """
    values = plain(values)
    if isinstance(config, System):
        if architecture not in (None, config.architecture):
            raise HeepgenError(
                f"architecture = {architecture}: the configuration is of {config.architecture}; give one of them."
            )
        return overridden(config, **values)
    if config is None or isinstance(config, str | Path):
        return load_config(config, architecture, **values)
    if not isinstance(config, Mapping):
        raise HeepgenError(
            f"config is a {type(config).__name__}; give a configuration, options, or the path of an hjson file."
        )
    given = plain(config)
    for section in (given, *(value for value in given.values() if isinstance(value, Mapping))):
        if not all(isinstance(name, str) for name in section):
            raise HeepgenError("config: names of options must be texts, such as rows.")
    kind = type(load_config({name: given[name] for name in ("architecture",) if name in given}, architecture))
    attributes = {o.attribute for o in options(kind)} - {o.key for o in options(kind)}
    by_attribute = {name: given.pop(name) for name in attributes & given.keys()}
    return load_config(given, architecture, **{**by_attribute, **values})


def plain(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The same values, numbers of NumPy as Python's, and so in sections."""
    return {
        name: plain(value) if isinstance(value, Mapping) else value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }
