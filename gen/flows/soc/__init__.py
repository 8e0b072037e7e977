# SPDX-License-Identifier: Apache-2.0
"""X-HEEP: a project for it, and the tools that it takes."""
