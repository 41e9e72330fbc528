"""Reads a page as a browser would: its elements, whether they nest, and its text."""

from html.parser import HTMLParser

EVIL = "</script><img src=x onerror=alert(1)>\"'&"
VOID = {"meta", "link", "br", "input", "img", "line", "rect", "circle", "path", "polyline", "polygon"}


class Checker(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data


def parse(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker
