"""Turns what a terminal shows into SVG: one picture, or a recording that plays by itself.

Reads what `tmux capture-pane -e -p` prints. A recording is a strip of frames that CSS moves; rows that are equal are
stored once.
"""
import html
import re

COLUMN, ROW, PADDING = 8.4, 18, 14
THEME = """
    .back{fill:#fbfbfc;stroke:#d5dae0}text{fill:#1f2328;font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,
    "DejaVu Sans Mono",monospace;white-space:pre}.b{font-weight:700}.f{fill:#6b7581}.g{fill:#1a7f37}.y{fill:#9a6700}
    .r{fill:#cf222e}.c{fill:#0969da}
    @media(prefers-color-scheme:dark){.back{fill:#14181d;stroke:#30363d}text{fill:#e6edf3}.f{fill:#8d96a0}
    .g{fill:#3fb950}.y{fill:#d29922}.r{fill:#ff7b72}.c{fill:#58a6ff}}"""
COLOURS = {"32": "g", "33": "y", "31": "r", "36": "c"}
SGR = re.compile(r"\x1b\[([0-9;]*)m")


def runs(line):
    """Pieces of a line: column, classes, text."""
    found, classes, column, position = [], set(), 0, 0
    for match in [*SGR.finditer(line), None]:
        text = re.sub(r"\x1b[^m]*m?", "", line[position : match.start() if match else len(line)])
        if text.strip():
            lead = len(text) - len(text.lstrip())
            found.append((column + lead, " ".join(sorted(classes)), text.strip()))
        column += len(text)
        if match is None:
            break
        position = match.end()
        for code in (match[1] or "0").split(";"):
            if code in ("0", ""):
                classes = set()
            elif code == "1":
                classes.add("b")
            elif code == "2":
                classes.add("f")
            elif code in ("22", "39"):
                classes -= {"b", "f"} if code == "22" else set(COLOURS.values())
            elif code in COLOURS:
                classes = classes - set(COLOURS.values()) | {COLOURS[code]}
    return found


def row(line):
    """A row as SVG; its baseline is at 0."""
    out = []
    for column, classes, text in runs(line.rstrip()):
        mark = f' class="{classes}"' if classes else ""
        # A width of its own for each piece, so that columns stand below each other in any font.
        out.append(
            f'<text x="{column * COLUMN:.1f}"{mark} textLength="{len(text) * COLUMN:.1f}" '
            f'lengthAdjust="spacingAndGlyphs">{html.escape(text)}</text>')
    return "".join(out)


def document(width, height, title, body, style=""):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img"><title>{html.escape(title)}</title><style>{THEME}{style}</style>'
        f'<rect class="back" x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8"/>{body}</svg>\n')


def size(columns, rows):
    return columns * COLUMN + 2 * PADDING, rows * ROW + 2 * PADDING


def picture(text, columns, title):
    lines = text.rstrip("\n").split("\n")
    width, height = size(columns, len(lines))
    body = "".join(
        f'<g transform="translate({PADDING} {PADDING + ROW * (index + 0.75):.1f})">{row(line)}</g>'
        for index, line in enumerate(lines) if line.strip())
    return document(width, height, title, body)


def recording(frames, columns, rows, title, hold=3.0):
    """`frames` are (seconds, text); equal neighbours become one."""
    kept = []
    for seconds, text in frames:
        if not kept or text != kept[-1][1]:
            kept.append((seconds, text))
    total = frames[-1][0] + hold
    width, height = size(columns, rows)
    known, uses = {}, []
    for index, (_, text) in enumerate(kept):
        parts = []
        for number, line in enumerate(text.rstrip("\n").split("\n")[:rows]):
            content = row(line)
            if content:
                name = known.setdefault(content, f"r{len(known):x}")
                parts.append(f'<use href="#{name}" y="{ROW * (number + 0.75):.1f}"/>')
        uses.append(f'<g transform="translate({index * width:.0f})">{"".join(parts)}</g>')
    steps = "".join(
        f"{100 * seconds / total:.2f}%{{transform:translateX({-index * width:.0f}px)}}"
        for index, (seconds, _) in enumerate(kept))
    last = f"100%{{transform:translateX({-(len(kept) - 1) * width:.0f}px)}}"
    style = f".strip{{animation:play {total:.1f}s steps(1,end) infinite}}@keyframes play{{{steps}{last}}}"
    defs = "".join(f'<g id="{name}">{content}</g>' for content, name in known.items())
    body = (
        f'<defs>{defs}</defs><svg x="{PADDING}" y="{PADDING}" width="{width - 2 * PADDING:.0f}" '
        f'height="{height - 2 * PADDING:.0f}"><g class="strip">{"".join(uses)}</g></svg>')
    return document(width, height, title, body, style)
