# SPDX-License-Identifier: Apache-2.0
"""heepgen in Python: a PyTorch model in, cycles, accuracy, firmware and simulated runs out.

net = heepgen.compile(model, example, rows=4, cols=4)
print(net.estimate())
"""

from heepgen.configuration import configuration
from heepgen.network import Network, compile, load, write
from hls import __version__
from hls.errors import HeepgenError

__all__ = ["HeepgenError", "Network", "__version__", "compile", "configuration", "load", "write"]
