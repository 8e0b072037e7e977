# SPDX-License-Identifier: Apache-2.0
from myhdl._Signal import _Signal

_signals: list[_Signal]
