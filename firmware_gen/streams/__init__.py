# SPDX-License-Identifier: Apache-2.0
"""Networks on windows of frames as networks that take the newest frames only."""
