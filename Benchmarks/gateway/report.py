"""Tables and a figure of what `Benchmarks/gateway/run` measured."""
import re
import statistics
import subprocess
from xml.sax.saxutils import escape

COLORS = {"nginx": "#2b8a3e", "HAProxy": "#4263eb", "sglang-router": "#868e96", "vllm-router": "#495057"}
# Title, case, value of a row, unit, whether less is better.
COLUMNS = [
    ("CPU µs a request, 64 clients", "request", lambda row: row["cpu"]),
    ("requests/s, 64 clients", "request", lambda row: row["rate"]),
    ("CPU µs a token, 64 streams flat out", "flat", lambda row: row["cpu"]),
    ("tokens/s, 64 streams flat out", "flat", lambda row: row["rate"]),
    ("CPU µs a token, 1000 streams at 20 ms", "paced", lambda row: row["cpu"]),
    ("tokens/s of 50 000", "paced", lambda row: row["rate"]),
    ("one way p50, ms", "paced", lambda row: row["one_way"]["p50"] / 1e3),
    ("one way p99, ms", "paced", lambda row: row["one_way"]["p99"] / 1e3),
    ("jitter p99, ms", "paced", lambda row: row["jitter"]["p99"] / 1e3),
    ("resident MB, 1000 streams", "paced", lambda row: row["resident"] / 1e6),
    ("first token p50, ms", "first", lambda row: row["first_token"]["p50"] / 1e3),
    ("first token p99, ms", "first", lambda row: row["first_token"]["p99"] / 1e3),
    ("one client's request p50, ms", "latency", lambda row: row["latency"]["p50"] / 1e3),
]


def line(row):
    """One sample, for whoever watches."""
    unit = "tok" if row["tokens"] else "req"
    cpu = f"{row['cpu']:7.2f} µs/{unit}" if row["cpu"] else " " * 14
    text = f"{cpu} {row['rate']:9.0f} {unit}/s"
    if row["tokens"]:
        text += (
            f"  first {row['first_token']['p50'] / 1e3:.2f}  one way {row['one_way']['p50'] / 1e3:.2f} / "
            f"{row['one_way']['p99'] / 1e3:.2f}  jitter p99 {row['jitter']['p99'] / 1e3:.2f} ms")
    else:
        text += f"  p50 {row['latency']['p50'] / 1e3:.3f} ms"
    text += f"  {row['resident'] / 1e6:.0f} MB"
    if row["errors"] or row["wrong"]:
        text += f"  ERRORS {row['errors']} WRONG {row['wrong']} {row['error']}"
    return text


def versions(options):
    found = {}
    for name, command in [
        ("nginx", ["nginx", "-v"]), ("HAProxy", ["haproxy", "-v"]),
        ("Tandem", ["git", "-C", str(options.benchmark).split("/.build")[0], "rev-parse", "--short", "HEAD"]),
    ]:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            text = (done.stdout + done.stderr).splitlines()[0]
            found[name] = (re.search(r"\d+\.\d+\.\d+", text) or [text])[0]
        except (OSError, IndexError):
            pass
    if options.peers:
        for name in ["sglang-router", "vllm-router"]:
            try:
                done = subprocess.run(
                    [f"{options.peers}/{name.split('-')[0]}/bin/pip", "show", name], capture_output=True, text=True)
                found[name] = re.search(r"Version: (\S+)", done.stdout)[1]
            except (OSError, TypeError):
                pass
    return found


class Cell:
    """The median of some samples and how far they lie apart."""

    def __init__(self, values):
        self.median, self.low, self.high = statistics.median(values), min(values), max(values)

    def __str__(self):
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"

    def over(self, other):
        """The ratio of two medians, or that they cannot be told apart."""
        if self.low <= other.high and other.low <= self.high:
            return f"{self.median / other.median:.2f} (no result)"
        return f"**{self.median / other.median:.2f}**"


def number(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(result, case, value):
    found = {}
    for row in result["samples"]:
        if row["case"] == case and row["units"]:
            found.setdefault(row["proxy"], []).append(value(row))
    return {name: Cell(values) for name, values in found.items() if all(each is not None for each in values)}


def names(result):
    found = []
    for row in result["samples"]:
        if row["proxy"] not in found:
            found.append(row["proxy"])
    order = ["nginx", "HAProxy", "sglang-router", "vllm-router", "direct"]
    return sorted(found, key=lambda name: order.index(name) if name in order else -1)


def markdown(result):
    shown = names(result)
    others = statistics.mean(result["others"]) if result["others"] else 0
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    text = [
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['began'][:16].replace('T', ' ')} UTC, "
        f"{result['rounds']} rounds. Other processes kept {others:.2f} cores busy"
        + (" (**provisional**: more than 0.15)" if others > 0.15 else "") + f". {versions}.", "",
        "Median (lowest-highest).", "", "| | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown),
    ]
    for title, case, value in COLUMNS:
        row = cells(result, case, value)
        if row:
            text.append(f"| {title} | " + " | ".join(str(row.get(name, "")) for name in shown) + " |")
    for case, unit in [("request", "request"), ("flat", "token, flat out"), ("paced", "token, 1000 streams")]:
        row = result["system_calls"].get(case)
        if row:
            text.append(
                f"| system calls a {unit} | "
                + " | ".join(f"{row[name]['per_unit']:.2f}" if name in row else "" for name in shown) + " |")
    wrong = {name: [0, 0] for name in shown}
    for row in result["samples"]:
        wrong[row["proxy"]][0] += row["errors"]
        wrong[row["proxy"]][1] += row["wrong"]
    text.append("| errors, wrong bytes | " + " | ".join("{}, {}".format(*wrong[name]) for name in shown) + " |")
    text += ["", "| CPU over | " + " | ".join(["nginx", "HAProxy"]) + " |", "|---|---|---|"]
    for title, case, value in COLUMNS:
        if not title.startswith("CPU"):
            continue
        row = cells(result, case, value)
        for name in shown:
            if name.split()[-1] in ("link", "http") and name in row:
                text.append(
                    f"| {name}: {title[3:].strip()} | "
                    + " | ".join(row[name].over(row[peer]) if peer in row else "" for peer in ["nginx", "HAProxy"])
                    + " |")
    rows = result.get("recovery", {}).get("rows")
    if rows:
        times = Cell([row["milliseconds"] for row in rows])
        step = statistics.median(row["token_milliseconds"] for row in rows)
        text += [
            "", f"From `kill -9` of an engine to the next token of its stream, another engine free: {times} ms, "
            f"{len(rows)} times; between two tokens {step:.1f} ms."]
    for name, why in result["missing"].items():
        text += ["", f"Left out: {name} ({why})."]
    return "\n".join(text) + "\n"


def figure(result):
    """CPU time a request and a token, as bars, readable on light and dark pages."""
    left, width, bar, gap = 150, 520, 16, 20
    parts, y = [], 70
    for title, case, value in COLUMNS:
        if not title.startswith("CPU"):
            continue
        row = cells(result, case, value)
        largest = max([cell.high for cell in row.values()], default=1)
        parts.append(f'<text x="16" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 8
        for name in names(result):
            if name not in row or name == "direct":
                continue
            cell = row[name]
            color = COLORS.get(name, "#d9480f" if name.endswith("link") else "#f59f00")
            length = max(1, cell.median / largest * width)
            low, high = (left + edge / largest * width for edge in (cell.low, cell.high))
            parts.append(
                f'<text x="{left - 10}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" fill="{color}"/>'
                f'<path class="spread" d="M{low:.1f} {y + 6.5}H{high:.1f}"/>'
                f'<text x="{max(high, left + length) + 6:.1f}" y="{y + 11}">{number(cell.median)}</text>')
            y += bar
        y += gap
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{y}" viewBox="0 0 760 {y}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12"><title>CPU time of gateways</title>'
        "<style>text{fill:#222}.background{fill:#fff}.spread{stroke:#222;stroke-width:1.5}"
        "@media (prefers-color-scheme: dark){text{fill:#ddd}.background{fill:#161616}.spread{stroke:#ddd}}</style>"
        f'<rect class="background" width="760" height="{y}"/>'
        '<text x="16" y="22" font-size="15">CPU time of gateways, microseconds: less is better</text>'
        f'<text x="16" y="40">One core each, the same mock engines; median, lowest and highest of {result["rounds"]} '
        f"rounds, {result['began'][:10]}</text>" + "".join(parts) + "</svg>\n")
