# SPDX-License-Identifier: Apache-2.0
"""What is wrong, in one sentence."""

from hls.errors import HeepgenError


class HeepstorchError(HeepgenError, ValueError):
    """HEEPstor raised ValueError, and its applications may catch that."""
