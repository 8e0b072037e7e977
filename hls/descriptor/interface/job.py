# SPDX-License-Identifier: Apache-2.0
"""Descriptor fields as MyHDL signals."""

from collections.abc import Mapping

from myhdl import Signal, SignalType, intbv

from hls.descriptor.interface.table import FIELD


class FieldSignals:
    """Some descriptor fields as signals; address fields are absolute and have a ``_region`` companion."""

    def __init__(self, signals: Mapping[str, SignalType]) -> None:
        self.__dict__.update(signals)

    def subset(self, names: str) -> "FieldSignals":
        """FieldSignals with only the named fields (a unit's port list holds what it reads)."""
        return FieldSignals({name: getattr(self, name) for name in names.split()})


def field_signal(name: str) -> SignalType:
    """Signal of the width and sign of descriptor field ``name`` (lower case)."""
    if name.endswith("_region"):
        return Signal(intbv(0)[2:])
    field = FIELD[name.upper()]
    if field.width == 1:
        return Signal(bool(0))
    if field.kind == "int":
        half = 1 << (field.width - 1)
        return Signal(intbv(0, min=-half, max=half))
    return Signal(intbv(0)[field.width :])


def job_signals(names: str) -> FieldSignals:
    """FieldSignals with fresh signals for the blank-separated lower-case field names."""
    return FieldSignals({name: field_signal(name) for name in names.split()})
