# SPDX-License-Identifier: Apache-2.0
"""Descriptor fields as MyHDL signals."""

from myhdl import Signal, intbv

from hls.descriptor.interface.table import FIELD


class Job:
    """Some descriptor fields as signals; address fields are absolute and have a ``_region`` companion."""

    def __init__(self, signals):
        self.__dict__.update(signals)

    def subset(self, names):
        """Job with only the named fields (a unit's port list holds what it reads)."""
        return Job({name: getattr(self, name) for name in names.split()})


def field_signal(name):
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


def job_signals(names):
    """Job with fresh signals for the blank-separated lower-case field names."""
    return Job({name: field_signal(name) for name in names.split()})
