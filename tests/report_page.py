"""What a page of HTML holds, for the tests of the reports; and names that would do harm
where they are taken for markup."""

from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://example.org/x onerror=alert(1)>',
    "$a_{b$ & $c^{d$",
    "</table></body>",
    "line\nbreak\tand\x00zero",
    "\u202eturned",
    "数字",
    "' onload='alert(1)",
    "\\N{BOX} %s {0}",
    "a name that goes on and on " * 8,
]
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What is in a page: its tables and texts; fails where tags do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open = []
        self.tags = []
        self.attributes = []
        self.tables = []
        self.texts = []
        self.styles_of_pictures = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag == "svg" or "svg" in self.open:
            self.styles_of_pictures += [v for name, v in attributes if name == "style"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    def table(self, first):
        """The rows below the header of the table whose first column has this name."""
        (rows,) = [table for table in self.tables if table[0][0] == first]
        return rows[1:]

    def values(self, tag, name):
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]
