# SPDX-License-Identifier: Apache-2.0
"""Networks of the last years, small ones: gates, smooth activations, recurrence, attention."""
