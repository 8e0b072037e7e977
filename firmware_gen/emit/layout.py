# SPDX-License-Identifier: Apache-2.0
"""C++ in the layout that clang-format gives it (`.clang-format`), for text whose length depends on the network."""

from collections.abc import Iterator

COLUMNS = 120


def statement(text: str, indent: int, loop: str = "") -> str:
    """A call, `indent` columns from the left, its arguments broken where a line would be too long.

    With `loop`, the head of a loop around it: beside it if there is room for both. The first line has no indentation.
    Where an argument is longer than a line, clang-format is told to leave all of it alone.
    """
    together = f"{loop} {text}" if loop else text
    if indent + len(together) <= COLUMNS:
        return together
    inner = indent + 2 if loop else indent
    result = f"{loop}\n{' ' * inner}{_call(text, inner)}" if loop else _call(text, inner)
    if max(map(len, result.split("\n"))) <= COLUMNS:
        return result
    return f"// clang-format off\n{' ' * indent}{result}\n{' ' * indent}// clang-format on"


def table(text: str) -> str:
    """Text that clang-format leaves alone if it would break a line of it or join two."""
    lines = text.split("\n")
    if len(lines) == 1 and len(text) <= COLUMNS:
        return text
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return "\n".join([f"{indent}// clang-format off", *lines, f"{indent}// clang-format on"])


def _call(text: str, indent: int) -> str:
    if indent + len(text) <= COLUMNS:
        return text
    head, bracket, rest = text.partition("(")
    head += bracket
    first, *others = _arguments(rest)
    aligned = indent + len(head)
    if aligned + max(map(len, (first, *others))) > COLUMNS:
        head, aligned = f"{head}\n{' ' * (indent + 4)}", indent + 4
    lines = [first]
    for argument in others:
        if aligned + len(lines[-1]) + 1 + len(argument) <= COLUMNS:
            lines[-1] += f" {argument}"
        else:
            lines.append(argument)
    return head + f"\n{' ' * aligned}".join(lines)


def _arguments(text: str) -> Iterator[str]:
    """Arguments of a call, each with what follows it: a comma, or for the last one the call's end."""
    depth, start, quoted = 0, 0, False
    for i, letter in enumerate(text):
        if letter == '"' and text[i - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (letter in "({[") - (letter in ")}]")
            if letter == "," and depth == 0:
                yield text[start : i + 1]
                start = i + 2
    yield text[start:]
