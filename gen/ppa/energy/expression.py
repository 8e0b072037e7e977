# SPDX-License-Identifier: Apache-2.0
"""Boolean expressions of Liberty files, evaluated on machine words: one bit per cycle."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from hls.errors import HeepgenError

Words = Any
"""NumPy array of uint64, or anything else with ~ & | ^."""
Function = Callable[[Mapping[str, Words]], Words]

_TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\]]*|[01]|[!'&*|+^()]|\S)")
_STARTS_OPERAND = re.compile(r"[A-Za-z_01!(]")


@cache
def function(text: str) -> Function:
    """What a Liberty expression says of values by pin name. ! and ' invert; then bind ^, then & * and blanks, then | +.

    Raises `HeepgenError` where it is none.
    """
    source = _Parser(text).whole()
    result: Function = eval(f"lambda v: {source}", {})  # built of names, operators and parentheses alone
    return result


def pins(text: str) -> tuple[str, ...]:
    """The pins that an expression names, each once."""
    return tuple(dict.fromkeys(re.findall(r"[A-Za-z_][\w\[\]]*", text)))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)[::-1]

    def whole(self) -> str:
        result = self.sums()
        if self.tokens:
            self.refuse()
        return result

    def refuse(self) -> None:
        raise HeepgenError(f'"{self.text}" is not a Boolean expression as Liberty has them; correct the library.')

    def next_is(self, tokens: str) -> bool:
        return bool(self.tokens) and self.tokens[-1] in tokens

    def sums(self) -> str:
        terms = [self.products()]
        while self.next_is("|+"):
            self.tokens.pop()
            terms.append(self.products())
        return f"({' | '.join(terms)})"

    def products(self) -> str:
        terms = [self.differences()]
        while self.tokens and (self.next_is("&*") or _STARTS_OPERAND.match(self.tokens[-1])):
            if self.next_is("&*"):
                self.tokens.pop()
            terms.append(self.differences())
        return f"({' & '.join(terms)})"

    def differences(self) -> str:
        terms = [self.operand()]
        while self.next_is("^"):
            self.tokens.pop()
            terms.append(self.operand())
        return f"({' ^ '.join(terms)})"

    def operand(self) -> str:
        token = self.tokens.pop() if self.tokens else ""
        if token == "!":
            return f"(~{self.operand()})"
        if token == "(":
            result = self.sums()
            if not self.next_is(")"):
                self.refuse()
            self.tokens.pop()
        elif re.match(r"[A-Za-z_01]", token):
            result = f"v[{token!r}]"
        else:
            self.refuse()
        while self.next_is("'"):
            self.tokens.pop()
            result = f"(~{result})"
        return result
