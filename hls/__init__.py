# SPDX-License-Identifier: Apache-2.0
__version__ = "0.1.0"
SPDX = "SPDX-License-Identifier: Apache-2.0"
"""Licence of what heepgen writes, as its first line says it."""
