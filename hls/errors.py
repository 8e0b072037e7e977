"""The one error type a user is meant to read."""


class HeepgenError(Exception):
    """Bad input: one sentence saying what is wrong, why, and what to do; on one line, whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """`text` with everything that a terminal would not show escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
