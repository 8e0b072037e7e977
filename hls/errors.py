# SPDX-License-Identifier: Apache-2.0
"""The one error type a user is meant to read, and what is no error."""

LONGEST = 2000
"""Characters of a message; the rest is left out in its middle."""


class HeepgenError(Exception):
    """Bad input: one sentence saying what is wrong, why, and what to do; on one line, whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())


class Stopped(SystemExit):
    """The program was told to end, by a signal; nobody's fault."""


def printable(text: str) -> str:
    """`text` with everything that a terminal would not show escaped, and not longer than LONGEST."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 + 5 :]}"
