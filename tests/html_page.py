# SPDX-License-Identifier: Apache-2.0
"""Pages, read as a browser reads them."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "input", "img", "hr"}


class Page(HTMLParser):
    """Elements of a page by name, with a check that all that is opened is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.ids, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)
