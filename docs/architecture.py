"""Draw docs/architecture.svg: the floors of the package, from the imports in its files.

    python docs/architecture.py [--check]

A room is a folder of lenet5c/, or a file that is in none. A line leads from a room to
one that it imports from, unless other lines lead there through the rooms between. What
is said of a room is the first sentence of its docstring. --check exits with 1 if the
picture is not the one that would be drawn.
"""

import ast
import re
import sys
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

# From the ground up. A file imports only from rooms on floors below its own.
FLOORS = [
    ["csrc"],
    ["core"],
    ["_support"],
    ["layers", "embed", "bits"],
    ["graph", "parameters", "display"],
    ["functional", "data"],
    ["interfaces"],
    ["files"],
    ["deploy", "report"],
    ["training"],
    ["engine"],
    ["model"],
    ["convert", "networks", "reference"],
    ["estimator", "cli"],
    # what programs import by name: nothing of the package imports these
    [
        *("article", "datasets", "losses", "optimizers", "pictures", "plots"),
        *("recipes", "schedules", "__main__"),
    ],
    ["__init__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    """One import: "lenet5c.data.images" or "numpy", and where it stands."""

    target: str
    in_function: bool = False
    for_types: bool = False


def imports_of(source: str, package: Path = ROOT / "lenet5c") -> Iterator[Import]:
    """All imports; names taken from a package of ours become modules of it."""
    yield from _walk(ast.parse(source), package, False, False)


def _walk(
    node: ast.AST, package: Path, in_function: bool, for_types: bool
) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, in_function, for_types)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            longer = f"{module}.{alias.name}"
            found = module == "lenet5c" or _is_ours(longer, package)
            yield Import(longer if found else module, in_function, for_types)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.body:
            yield from _walk(child, package, in_function, True)
        for child in node.orelse:
            yield from _walk(child, package, in_function, for_types)
        return
    inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, inside, for_types)


def _is_ours(name: str, package: Path) -> bool:
    path = package.parent.joinpath(*name.split("."))
    return name.startswith("lenet5c.") and (
        path.is_dir() or path.with_suffix(".py").is_file()
    )


def room_of(module: str) -> str:
    """The room of "data.images"; of the compiled modules too."""
    first = module.partition(".")[0]
    return "core" if first == "_cpu" else first


class Room(NamedTuple):
    """A box of the picture: what it is called, what it is, its files by folder."""

    title: str
    sentence: str
    files: dict[str, list[str]]
    imports: set[str]


SUFFIXES = (".py", ".pyx", ".pxd")
C_SUFFIXES = (".c", ".h", ".def")
PLAIN = (".py", ".pxd")  # not said: what most files of a folder are
SENTENCES = {  # of folders that are no packages of Python
    "csrc": "C: one image at a time without Python, and the ground of all kernels.",
    "core": "Cython, compiled once for each instruction set: all training.",
}


def rooms() -> dict[str, Room]:
    """All rooms, from the ground up; a floor's many small files are one of them."""
    found = {}
    for floor in FLOORS:
        if len(floor) > 3:
            parts = [_room(name) for name in floor]
            files = {"": [part.title for part in parts]}
            imports = set().union(*(part.imports for part in parts))
            sentence = "What programs import by name, and python -m lenet5c."
            found[floor[0]] = Room("lenet5c/", sentence, files, imports)
        else:
            found |= {name: _room(name) for name in floor}
    return found


def _room(name: str) -> Room:
    folder = ROOT / ("csrc" if name == "csrc" else f"lenet5c/{name}")
    suffixes = C_SUFFIXES if name == "csrc" else SUFFIXES
    if not folder.is_dir():
        paths = [folder.with_suffix(end) for end in SUFFIXES]
        paths = [path for path in paths if path.exists()]
        return Room(paths[0].name, _sentence(paths[0]), {}, _imports(name, paths))
    paths = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    files: dict[str, list[str]] = {}
    for path in paths:
        if path.stem != "__init__":
            said = path.stem if path.suffix in PLAIN else path.name
            inner = files.setdefault(path.parent.relative_to(folder).as_posix(), [])
            inner += [said] * (said not in inner)
    sentence = SENTENCES.get(name) or _sentence(folder / "__init__.py")
    return Room(f"{name}/", sentence, files, _imports(name, paths))


def _sentence(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = re.match(r'"""(.*?)(\n\n|""")', path.read_text("utf-8"), re.S)
    if not text:
        raise ValueError(f"{path}: expected a docstring at its head")
    return " ".join(text[1].split()).partition(". ")[0].rstrip(".") + "."


def _imports(name: str, paths: list[Path]) -> set[str]:
    """The other rooms that these files import from, or include."""
    found = set()
    for path in paths:
        source = path.read_text("utf-8")
        if path.suffix == ".py":
            targets = [item.target for item in imports_of(source)]
            ours = (to.partition(".")[2] for to in targets if to.startswith("lenet5c."))
            found |= {room_of(module) for module in ours}
        elif path.suffix in (".pyx", ".pxd") and re.search(
            r'^cdef extern from "', source, re.M
        ):
            found.add("csrc")
    for room in found - {name}:
        if FLOOR.get(room, len(FLOORS)) >= FLOOR[name]:
            sys.exit(f"{name} imports {room}, which is on no floor below (FLOORS)")
    return found - {name}


WIDTH = 840
SIDE = 36  # left and right of the boxes, where lines pass as well
BETWEEN = 36  # two boxes
FALL = 38  # two floors, where lines cross over
LANE = 9  # two lines side by side
PAD = 12
LINE = 18  # of text
CHARACTER = 7.25  # of monospaced text of 12 pixels
LETTER = 7  # of other text of 13 pixels, on average and with some to spare

STYLE = """
svg { color-scheme: light dark; --page: #ffffff; --box: #f3f5f8; --edge: #c3cad4;
  --title: #14427e; --text: #1d2530; --files: #4a5563; --line: #7d8896; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --box: #181e27;
  --edge: #39424f; --title: #8cbcff; --text: #dfe5ec; --files: #a3afbd;
  --line: #7c8797; } }
.page { fill: var(--page); }
.box { fill: var(--box); stroke: var(--edge); }
.title { font: 600 15px ui-monospace, Menlo, Consolas, monospace; fill: var(--title); }
.text { font: 13px system-ui, Helvetica, Arial, sans-serif; fill: var(--text); }
.files { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: var(--files); }
.folder { font-weight: 600; }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; }
.head { fill: var(--line); }
"""


class Box(NamedTuple):
    """Where a room is drawn: its lines of text by class."""

    x: float
    y: float
    width: float
    height: float
    lines: list[tuple[str, str]]


def wrapped(words: list[str], width: float, letter: float) -> list[str]:
    """Lines of words that are no wider."""
    lines: list[str] = []
    for word in words:
        if lines and (len(lines[-1]) + 1 + len(word)) * letter <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def text_of(room: Room, width: float) -> list[tuple[str, str]]:
    """Lines of a room's box: class and text."""
    inner = width - 2 * PAD
    lines = [("title", room.title)]
    lines += [("text", line) for line in wrapped(room.sentence.split(), inner, LETTER)]
    for folder, files in room.files.items():
        head = [] if folder in (".", "") else [f"{folder}/"]
        rows = wrapped(head + files, inner, CHARACTER)
        lines += [("files", row) for row in rows]
    return lines


def place(all_rooms: dict[str, Room]) -> tuple[dict[str, Box], list[list[str]], float]:
    """Boxes from the top floor down, the floors, and the height of it all."""
    floors = [[name for name in floor if name in all_rooms] for floor in FLOORS[::-1]]
    boxes = {}
    y = float(SIDE)
    for floor in floors:
        weights = [weight(all_rooms[name]) for name in floor]
        free = WIDTH - 2 * SIDE - BETWEEN * (len(floor) - 1)
        widths = [free * each / sum(weights) for each in weights]
        texts = [
            text_of(all_rooms[name], w) for name, w in zip(floor, widths, strict=True)
        ]
        height = max(map(len, texts)) * LINE + 2 * PAD - 3
        x = float(SIDE)
        for name, width, text in zip(floor, widths, texts, strict=True):
            boxes[name] = Box(x, y, width, height, text)
            x += width + BETWEEN
        y += height + FALL
    return boxes, floors, y - FALL + SIDE


def weight(room: Room) -> float:
    """How wide a box wants to be, compared with those beside it."""
    text = len(room.sentence) + sum(
        len(f) + 1 for fs in room.files.values() for f in fs
    )
    return max(60, text) ** 0.5


def lines_between(all_rooms: dict[str, Room]) -> list[tuple[str, str]]:
    """From and to, without the lines that others make needless."""
    box_of = {name: name for name in all_rooms}
    for floor in FLOORS:
        box_of |= {name: floor[0] for name in floor if name not in all_rooms}
    to = {
        name: {box_of[target] for target in room.imports} - {name}
        for name, room in all_rooms.items()
    }

    def reached(name: str) -> set[str]:
        return to[name].union(*map(reached, to[name]))

    return [
        (name, target)
        for name in all_rooms
        for target in sorted(to[name], key=list(all_rooms).index)
        if not any(target in reached(other) for other in to[name] - {target})
    ]


Point = tuple[float, float]


def routes(
    edges: list[tuple[str, str]], boxes: dict[str, Box], floors: list[list[str]]
) -> list[list[Point]]:
    """Points of each line: out of a box, through the gaps of floors, into another."""
    level = {name: i for i, floor in enumerate(floors) for name in floor}
    middle = {name: box.x + box.width / 2 for name, box in boxes.items()}
    gaps = [gaps_of([boxes[name] for name in floor]) for floor in floors]

    ways: list[dict[int, int]] = []  # by floor, the number of the gap
    for start, end in edges:
        x, way = middle[start], {}
        for i in range(level[start] + 1, level[end]):
            aim = x + (middle[end] - x) / (level[end] - i + 1)
            way[i] = min(range(len(gaps[i])), key=lambda g: abs(gaps[i][g] - aim))
            x = gaps[i][way[i]]
        ways.append(way)

    def heading(e: int, i: int, step: int) -> float:
        """Where line e is on the floor after or before floor i."""
        way, (start, end) = ways[e], edges[e]
        ends = middle[end if step > 0 else start]
        return gaps[i + step][way[i + step]] if i + step in way else ends

    # In a gap between boxes lines lie in the order in which they come, at a box in that
    # in which they go on; at the sides each keeps to a lane, the shortest inside.
    at: dict[tuple[int, int], float] = {}
    for i, row in enumerate(gaps):
        for g in range(1, len(row) - 1):
            users = [e for e, way in enumerate(ways) if way.get(i) == g]
            users.sort(key=lambda e: (heading(e, i, -1), heading(e, i, 1)))
            at |= {(e, i): x for e, x in spread(users, row[g], LANE).items()}
    for left in (True, False):
        taken: set[tuple[int, int]] = set()  # lane, floor
        for e in sorted(range(len(edges)), key=lambda e: (len(ways[e]), e)):
            run = [
                i for i, g in ways[e].items() if g == (0 if left else len(gaps[i]) - 1)
            ]
            lane = 0
            while any((lane, i) in taken for i in run):
                lane += 1
            taken |= {(lane, i) for i in run}
            inside = SIDE - LANE * (lane + 1)
            at |= {(e, i): inside if left else WIDTH - inside for i in run}
    leave: dict[int, float] = {}
    enter: dict[int, float] = {}
    for name, box in boxes.items():
        for side, ends, step in ((leave, 0, 1), (enter, 1, -1)):
            users = [e for e, edge in enumerate(edges) if edge[ends] == name]
            users.sort(key=lambda e: heading(e, level[name], step))
            side |= spread(users, middle[name], min(40, box.width / (len(users) + 1)))

    points = []
    for e, (start, end) in enumerate(edges):
        line = [(leave[e], boxes[start].y + boxes[start].height)]
        for i in ways[e]:
            box = boxes[floors[i][0]]
            line += [(at[e, i], box.y), (at[e, i], box.y + box.height)]
        points.append([*line, (enter[e], boxes[end].y)])
    return points


def gaps_of(row: list[Box]) -> list[float]:
    """Middles of the gaps between the boxes of a floor, and beside them."""
    return [SIDE / 2, *(box.x - BETWEEN / 2 for box in row[1:]), WIDTH - SIDE / 2]


def spread(users: list[int], centre: float, step: float) -> dict[int, float]:
    """Places in a row around a centre."""
    first = centre - step * (len(users) - 1) / 2
    return {user: first + step * k for k, user in enumerate(users)}


def path_of(points: list[Point]) -> str:
    """A smooth line down: straight beside boxes, a curve from floor to floor."""
    x, y = points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    end = points[-1][0], points[-1][1] - 6  # where the arrow's head is
    for (x0, y0), (x1, y1) in pairwise([*points[:-1], end]):
        bend = (y0 + y1) / 2
        if x0 == x1:
            parts.append(f"V{y1:.1f}")
        else:
            parts.append(f"C{x0:.1f} {bend:.1f} {x1:.1f} {bend:.1f} {x1:.1f} {y1:.1f}")
    return " ".join(parts)


def draw() -> str:
    """The picture."""
    all_rooms = rooms()
    boxes, floors, height = place(all_rooms)
    edges = lines_between(all_rooms)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}"'
        f' viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        "<title>The rooms of lenet5c, floor by floor, and what imports what</title>",
        f"<style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
    ]
    for points in routes(edges, boxes, floors):
        x, y = points[-1]
        out.append(f'<path class="line" d="{path_of(points)}"/>')
        out.append(
            f'<path class="head" d="M{x:.1f} {y:.1f}l-4 -8h8z"/>',
        )
    for box in boxes.values():
        out.append(
            f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}"'
            f' height="{box.height:.1f}" rx="6"/>'
        )
        for i, (kind, text) in enumerate(box.lines):
            y = box.y + PAD + LINE * i + 12
            said = re.sub(
                r"^(\w+/) ", r'<tspan class="folder">\1</tspan> ', escape(text)
            )
            out.append(
                f'<text class="{kind}" x="{box.x + PAD:.1f}" y="{y:.1f}">{said}</text>'
            )
    return "\n".join([*out, "</svg>\n"])


def main(arguments: list[str]) -> int:
    """Draw, or say whether drawing would change anything."""
    drawn = draw()
    if arguments != ["--check"]:
        PICTURE.write_text(drawn, "utf-8")
    elif not PICTURE.exists() or PICTURE.read_text("utf-8") != drawn:
        print(f"{PICTURE.name} is not what the imports give: poe picture")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
