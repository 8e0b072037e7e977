# SPDX-License-Identifier: Apache-2.0
"""What an application holds besides its C++: options, what PyTorch says, a picture of the memory plan."""
