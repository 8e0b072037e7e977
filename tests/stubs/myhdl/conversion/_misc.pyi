# SPDX-License-Identifier: Apache-2.0
class _kind:
    ALWAYS_DECO: int
    ALWAYS_COMB: int
    SIMPLE_ALWAYS_COMB: int

class _UniqueSuffixGenerator:
    def reset(self) -> None: ...

_genUniqueSuffix: _UniqueSuffixGenerator
