"""A page of HTML that needs nothing else: its frame, its tables, its pictures.

Whatever comes from outside, as names of classes and layers do, is escaped. The page's
policy allows one script, by its hash: the one that sorts and filters tables.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lenet5c._support.build import __version__
from lenet5c.files.atomic import write_atomically
from lenet5c.report.canvas import SERIES, inline_svg, png, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MODELS = len(SERIES)  # side by side

__all__ = ["Album", "Section", "page_of", "paragraph", "share", "table"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5a5a5a; --paper: #ffffff;
  --line: #d5d5d5; --card: #f4f5f6; --accent: #0072b2; --series-1: #0072b2;
  --series-2: #d55e00; --series-3: #00805d; --series-4: #a8447c; --series-5: #9a6a00;
  --series-6: #3a87b8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b0b0b0;
  --paper: #17191c; --line: #3b3f45; --card: #23262b; --accent: #56b4e9;
  --series-1: #56b4e9; --series-2: #ff8c42; --series-3: #2fc79b; --series-4: #e39ac1;
  --series-5: #f0b429; --series-6: #9ad4f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.4rem; padding-top: 0.6rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: 0.5rem 0; }
.soft, figcaption, footer { color: var(--soft); }
figcaption, footer { font-size: 0.875rem; }
figcaption { margin-top: 0.4rem; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; }
a { color: var(--accent); }
dl { display: grid; gap: 0.7rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
dl div { background: var(--card); border-radius: 0.5rem; padding: 0.6rem 0.9rem; }
dt { color: var(--soft); font-size: 0.875rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
figure { margin: 1rem 0; }
.plot { display: block; max-width: 100%; height: auto; font-family: inherit;
  overflow: visible; }
.plot * { stroke-linejoin: round; }
.plot text { fill: var(--ink); white-space: pre; }
/* What is wider than the page scrolls, and has a shade where there is more. */
.scroll { overflow-x: auto; margin: 1rem 0; background:
  linear-gradient(to right, var(--paper) 40%, transparent) local 0 0 / 2.5rem 100%,
  linear-gradient(to left, var(--paper) 40%, transparent) local 100% 0 / 2.5rem 100%,
  linear-gradient(to right, var(--line), transparent) scroll 0 0 / 0.9rem 100%,
  linear-gradient(to left, var(--line), transparent) scroll 100% 0 / 0.9rem 100%;
  background-repeat: no-repeat; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; color: var(--soft); font-size: 0.875rem;
  padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
th.text, td.text { text-align: left; }
td.long { max-width: 18rem; min-width: 11rem; white-space: normal;
  overflow-wrap: anywhere; }
td.long:last-child { max-width: 26rem; min-width: 20rem; }
th, tfoot td { font-weight: 600; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  text-align: inherit; cursor: pointer; text-decoration: underline dotted;
  text-underline-offset: 0.2em; }
th[aria-sort] button { text-decoration: none; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
button:focus-visible, input:focus-visible { outline: 2px solid var(--accent); }
.filter { display: flex; flex-wrap: wrap; gap: 0.2rem 0.8rem; align-items: baseline;
  margin: 0.8rem 0 -0.4rem; font-size: 0.875rem; color: var(--soft); }
.filter input { font: inherit; color: var(--ink); background: var(--paper);
  border: 1px solid var(--soft); border-radius: 0.3rem; padding: 0.2rem 0.4rem;
  margin-left: 0.4rem; max-width: 100%; }
pre { background: var(--card); border-radius: 0.5rem; padding: 0.8rem 1rem;
  overflow-x: auto; font-size: 0.85rem; line-height: 1.4; overflow-wrap: normal; }
footer { margin-top: 3rem; }
small { font-size: 0.95rem; font-weight: normal; color: var(--soft); }
@media screen and (max-width: 50rem) {
  .plot { max-width: none; width: max(100%, var(--least)); }
  table { font-size: 0.92rem; } th { white-space: normal; }
  th, td { padding-right: 0.6rem; } }
@media print { :root { --ink: #000000; --soft: #444444; --paper: #ffffff;
  --line: #bbbbbb; --card: #ffffff; --accent: #000000; --series-1: #0072b2;
  --series-2: #d55e00; --series-3: #00805d; --series-4: #a8447c; --series-5: #9a6a00;
  --series-6: #3a87b8; }
  body { font-size: 10.5pt; max-width: none; padding: 0; }
  nav, .filter { display: none; }
  figure, dl div, tr, pre { break-inside: avoid; } h2, p { break-after: avoid; }
  p { break-inside: avoid; }
  .plot { max-width: 100%; max-height: 22cm; }
  .scroll, pre { overflow: visible; background: none; }
  dl div { border: 1px solid var(--line); } }
""".strip()


LONG_TEXT = 20  # characters; a column of longer ones has several lines

# Without it, or on paper, the tables are as they are written.
SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const number = (row, k) => {
    const text = row.cells[k].textContent.replace(/[,%+]/g, "");
    return text === "" || isNaN(text) ? Infinity : Number(text);
  };
  heads.forEach((head, k) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[k].textContent;
      const inOrder = new Intl.Collator("en", {numeric: true}).compare;
      rows.sort((a, b) => {
        if (head.classList.contains("text"))
          return (down ? -1 : 1) * inOrder(text(a), text(b));
        const x = number(a, k), y = number(b, k);
        if (x === y) return 0;
        if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
        return down ? y - x : x - y;
      });
      body.append(...rows);
    });
  });
  if (rows.length < 8) continue;
  const line = document.createElement("div"), label = document.createElement("label");
  const input = document.createElement("input"), said = document.createElement("span");
  input.type = "search";
  said.setAttribute("role", "status");
  line.className = "filter";
  label.append("Filter rows", input);
  line.append(label, said);
  table.parentElement.before(line);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows)
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = wanted && `${shown} of ${rows.length}`;
  });
}
"""


class Album:
    """The folder of pictures; what is drawn into it is returned as HTML."""

    NAMES = (
        *("learning_curves", "confusion_matrix", "rankings", "calibration"),
        *("mistakes", "occlusion", "filters", "feature_maps"),
        *(f"only_{k}" for k in range(1, MAX_MODELS + 1)),
    )

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.drawn: set[str] = set()
        folder.mkdir(exist_ok=True)

    def add(
        self, name: str, draw: Callable[[], Figure], text: str, caption: str
    ) -> str:
        """Draw a picture, write it, and return it as a figure of the page.

        `text` is for those who cannot see it, `caption` stands below it.
        """
        self.say(f"drawing {name.replace('_', ' ')}")
        figure = draw()
        write_atomically(self.folder / f"{name}.png", [png(figure)])
        figure.set_layout_engine("none")  # it has found its places
        self.drawn.add(name)
        return (
            f'<figure><div class="scroll" tabindex="0">{inline_svg(figure, name, text)}'
            f"</div><figcaption>{escape(caption)}</figcaption></figure>"
        )

    def tidy(self) -> None:
        """Remove pictures of an earlier report that this one has not."""
        for name in set(self.NAMES) - self.drawn:
            (self.folder / f"{name}.png").unlink(missing_ok=True)


class Section(NamedTuple):
    """A part of the page: the name of its anchor, its heading, what is in it."""

    key: str
    heading: str
    parts: list[str]


def page_of(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    links = " ".join(
        f'<a href="#{section.key}">{escape(section.heading)}</a>'
        for section in sections
    )
    cards = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{_fact(value)}</dd></div>"
        for name, value in facts.items()
    )
    body = "\n".join(
        f'<section id="{section.key}">\n<h2>{escape(section.heading)}</h2>\n'
        + "\n".join(section.parts)
        + "\n</section>"
        for section in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'sha256-{_sha256(SCRIPT)}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<dl>
{cards}
</dl>
<nav>{links}</nav>
</header>
<main>
{body}
</main>
<footer>Written by lenet5c {escape(__version__)}.</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _fact(value: str) -> str:
    """A number, and small what comes after it."""
    number, space, rest = value.partition(" ")
    return escape(number) + space + (f"<small>{escape(rest)}</small>" if rest else "")


def _sha256(script: str) -> str:
    """What the page's policy knows its one script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    texts: Collection[int],
    total: Sequence[Any] | None = None,
) -> str:
    """A table that can be sorted, whose columns `texts` are texts and whose others are
    numbers.

    `total` is a row below the others, which stays there.
    """
    kinds = []
    every = [*rows, *([] if total is None else [total])]
    for k in range(len(columns)):
        long = any(len(printable(row[k])) > LONG_TEXT for row in every)
        kind = ' class="text long"' if long else ' class="text"'
        kinds.append(kind if k in texts else "")
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, columns, strict=True)
    )

    def line(row: Sequence[Any]) -> str:
        cells = "".join(
            f"<td{kind}>{escape(printable(cell))}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        return f"<tr>{cells}</tr>"

    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    below = "" if total is None else f"\n<tfoot>\n{line(total)}\n</tfoot>"
    body = "\n".join(map(line, rows))
    return (
        f'<div class="scroll" tabindex="0"><table>{above}\n<thead><tr>{head}</tr>'
        f"</thead>\n<tbody>\n{body}\n</tbody>{below}</table></div>"
    )


def paragraph(words: str) -> str:
    return f"<p>{escape(words)}</p>"


def share(value: float) -> str:
    return f"{value:.2%}" if math.isfinite(value) else "\N{EN DASH}"
