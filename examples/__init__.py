# SPDX-License-Identifier: Apache-2.0
"""Example networks: definitions, data sets and training. `python -m examples.train --help`."""
