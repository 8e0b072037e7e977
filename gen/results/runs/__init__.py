# SPDX-License-Identifier: Apache-2.0
"""What runs on the virtual SoC measured, of networks and of other programs."""
