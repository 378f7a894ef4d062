"""Bar charts as SVG, readable on light and dark pages."""
from xml.sax.saxutils import escape

COLORS = {
    "tandem": "#d9480f", "tandem, 1 engine": "#f59f00", "llama.cpp": "#4263eb", "llama.cpp best format": "#91a7ff",
    "vllm": "#2b8a3e", "without": "#868e96", "8": "#f59f00", "16": "#d9480f",
}
LEFT, WIDTH, BAR, GAP = 150, 540, 16, 18


def bars(title, subtitle, table, names, label, floors=None, base=None):
    """One group of bars a row of `table` ({row: {arm: Cell}}), on a scale of its own, since rows differ a hundredfold.

    Beside a bar stands its value and, for others, how many times faster Tandem is. `floors` ({row: tokens/s}) adds the
    machine's limit as the full width. With `base` the note says how many times as fast as that arm a bar is.
    """
    parts, y = [], 84
    arms = [arm for arm in names if any(arm in row for row in table.values())]
    for key, row in table.items():
        floor = (floors or {}).get(key)
        largest = max([cell.median for cell in row.values()] + ([floor] if floor else []))
        shown = [arm for arm in arms if arm in row]
        middle = y + len(shown) * BAR / 2 + 3
        parts.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(label(key))}</text>')
        if floor:
            height = len(shown) * BAR - 3
            parts.append(f'<rect class="floor" x="{LEFT}" y="{y}" width="{WIDTH}" height="{height}"/>')
        for arm in shown:
            value = row[arm].median
            note = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
            if arm == "tandem" and floor:
                note += f" ({value / floor:.0%} of the limit)"
            elif base and arm != base:
                note += f" ({value / row[base].median:.1f}x)"
            elif not arm.startswith("tandem") and "tandem" in row:
                note += f" (Tandem {row['tandem'].median / value:.1f}x)"
            length = max(1, value / largest * WIDTH)
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 3}" fill="{COLORS[arm]}"/>')
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 11}">{note}</text>')
            y += BAR
        y += GAP
    legend = LEFT
    for arm in arms:
        parts.append(f'<rect x="{legend}" y="54" width="12" height="12" fill="{COLORS[arm]}"/>')
        parts.append(f'<text x="{legend + 18}" y="64">{escape(names[arm])}</text>')
        legend += 42 + 7 * len(names[arm])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="880" height="{y}" viewBox="0 0 880 {y}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>'
        f"<desc>{escape(subtitle)}</desc>"
        "<style>text{fill:#222}.background{fill:#fff}.floor{fill:#8882}@media (prefers-color-scheme: dark)"
        "{text{fill:#ddd}.background{fill:#161616}}</style>"
        f'<rect class="background" width="880" height="{y}"/>'
        f'<text x="16" y="22" font-size="15">{escape(title)}</text><text x="16" y="40">{escape(subtitle)}</text>'
        + "".join(parts) + "</svg>\n"
    )
