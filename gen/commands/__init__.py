# SPDX-License-Identifier: Apache-2.0
"""The commands of `heepgen`, a file each; what they need is imported when they run."""
