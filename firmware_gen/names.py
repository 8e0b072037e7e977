# SPDX-License-Identifier: Apache-2.0
"""Names and messages of others, in a form that is safe in messages, tables, comments of C++ and command lines."""

import re

MOST = 100


def safe_name(name: str) -> str:
    """A name as one word or several: without quotes, brackets, backslashes, commas and semicolons."""
    return one_line(re.sub(r"""["\\`,;()\[\]{}]|[?](?=[?])""", "_", name)) or "_"


def one_line(text: str) -> str:
    """At most MOST printable characters on one line."""
    line = "".join(c if c.isprintable() else "_" for c in text).strip()
    return line if len(line) <= MOST else f"{line[: MOST - 3]}..."
