"""Tables and targets from the samples of a results file."""
import statistics

ARMS = {
    "tandem": "Tandem", "tandem, 1 engine": "Tandem, 1 engine", "llama.cpp": "llama.cpp, same file",
    "llama.cpp best format": "llama.cpp, Q4_0", "vllm": "vLLM, BF16",
}
# What the project set out to reach: (model or None for any other, part, row, over which arm, factor).
TARGETS = [
    ("smollm2", "offline", "prompt 512", "llama.cpp", 5),
    ("smollm2", "offline", "prompt 512", "llama.cpp best format", 2),
    ("smollm2", "offline", "prompt 512", "vllm", 1),
    ("smollm2", "offline", "decode 1", "llama.cpp", 1.7),
    ("smollm2", "offline", "decode 16", "llama.cpp", 3),
    ("smollm2", "offline", "decode 64", "llama.cpp", 5),
    ("smollm2", "served", "1", "llama.cpp", 2.5),
    ("smollm2", "served", "64", "vllm", 1.2),
    (None, "offline", "prompt 512", "llama.cpp", 2),
    (None, "offline", "decode 1", "llama.cpp", 1.5),
    (None, "offline", "decode 16", "llama.cpp", 2),
    (None, "offline", "decode 64", "llama.cpp", 2),
]


def label(key):
    kind, size = key.split()
    return f"prompt, {size} tokens" if kind == "prompt" else f"decode, batch {size}"


def clients(key):
    return f"{key} client" + ("" if key == "1" else "s")


def order(key):
    kind, size = key.split() if " " in key else ("", key)
    return (kind != "prompt", int(size))


class Cell:
    """One figure: the median of its samples, and (largest - smallest) / median."""

    def __init__(self, values):
        self.median, self.count = statistics.median(values), len(values)
        self.spread = (max(values) - min(values)) / self.median if self.median else 0

    def __str__(self):
        digits = 0 if self.median >= 100 else 1
        return f"{self.median:.{digits}f}" + (f" ±{self.spread / 2:.0%}" if self.count > 1 else "")


def collect(result, part, threads=None, field=None, disturbed=None):
    """{row: {arm: Cell}} of the samples of one part; `field` picks a number out of a served row."""
    values = {}
    for sample in result["samples"]:
        if sample["part"] != part or threads not in (None, sample.get("threads")):
            continue
        if disturbed is not None and sample.get("disturbed") != disturbed:
            continue
        for key, value in sample["figures"].items():
            number = value if field is None else value.get(field)
            if number is not None:
                values.setdefault(key, {}).setdefault(sample["arm"], []).append(number)
    rows = sorted(values, key=order)
    return {row: {arm: Cell(values[row][arm]) for arm in ARMS if arm in values[row]} for row in rows}


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def ratio_table(table, floors=None, first="", name=label, floor_title="of floor"):
    """Tandem beside the others and how many times faster it is."""
    others = [arm for arm in ARMS if arm != "tandem" and any(arm in row for row in table.values())]
    header = [first, "Tandem"] + ([floor_title] if floors else [])
    for arm in others:
        header += [ARMS[arm], "ratio"]
    rows = []
    for key, row in table.items():
        ours = row.get("tandem")
        cells = [name(key), str(ours) if ours else "–"]
        if floors:
            floor = floors["figures"].get(key)
            bound = {"bytes": "memory", "operations": "arithmetic"}[floors["bound"][key]] if floor else ""
            cells.append(f"{ours.median / floor:.0%} ({bound})" if ours and floor else "–")
        for arm in others:
            theirs = row.get(arm)
            cells.append(str(theirs) if theirs else "–")
            cells.append(f"**{ours.median / theirs.median:.2f}**" if ours and theirs else "–")
        rows.append(cells)
    return markdown(header, rows)


def served_table(result):
    throughput = collect(result, "served", field="output_throughput")
    ttft = collect(result, "served", field="median_ttft_ms")
    tpot = collect(result, "served", field="median_tpot_ms")
    rows = []
    for key, row in throughput.items():
        for arm, cell in row.items():
            multiples = [
                f"**{row[ours].median / cell.median:.2f}**" if ours in row and not arm.startswith("tandem") else ""
                for ours in ("tandem", "tandem, 1 engine")
            ]
            rows.append(
                [key, ARMS[arm].replace("llama.cpp", "llama-server"), str(cell), f"{ttft[key][arm].median:.0f}",
                 f"{tpot[key][arm].median:.1f}", *multiples])
    header = ["clients", "server", "generated tokens/s", "TTFT, ms", "TPOT, ms", "Tandem over it", "1 engine over it"]
    return markdown(header, rows) if rows else ""


def contention_table(result):
    quiet, disturbed = (collect(result, "contention", disturbed=state) for state in (False, True))
    rows = []
    for key in disturbed:
        for arm, cell in disturbed[key].items():
            before = quiet.get(key, {}).get(arm)
            if before:
                rows.append([label(key), ARMS[arm], str(before), str(cell), f"{cell.median / before.median:.0%}"])
    header = ["", "engine, all cores", "alone, tokens/s", "one core busy, tokens/s", "kept"]
    return markdown(header, rows) if rows else ""


def targets(result):
    """Rows (what, wanted, reached, verdict) of the targets that apply to this model."""
    model = result["model"]
    known = any(target[0] == model for target in TARGETS)
    cores = result["machine"]["cores"]
    rows = []
    for name, part, key, arm, factor in TARGETS:
        if name != (model if known else None):
            continue
        table = (
            collect(result, "offline", threads=min(2, cores)) if part == "offline"
            else collect(result, "served", field="output_throughput"))
        ours, theirs = table.get(key, {}).get("tandem"), table.get(key, {}).get(arm)
        what = label(key) if part == "offline" else f"served, {clients(key)}"
        if ours and theirs:
            reached = ours.median / theirs.median
            verdict = "met" if reached >= factor else "**missed**"
            provisional = " (provisional)" if noisy(loads(result)) else ""
            rows.append([what, ARMS[arm], f"{factor:g}x", f"{reached:.2f}x", verdict + provisional])
        else:
            rows.append([what, ARMS[arm], f"{factor:g}x", "not measured", "open"])
    return markdown(["", "over", "wanted", "reached", ""], rows)


def rates(floors):
    rows = []
    for threads in sorted(floors):
        floor = floors[threads]
        peaks = floor["peaks"]
        rows.append(
            [threads, f"{floor['bytes_per_second'] / 1e9:.1f}"]
            + [f"{peaks[name] / 1e9:.0f}" if name in peaks else "–" for name in ("int8", "bf16", "f32")])
    return markdown(
        ["threads", "reading weights, GB/s", "8-bit dot, GOP/s", "BF16 dot, GFLOP/s", "FP32 FMA, GFLOP/s"], rows)


def sections(result, figures):
    """The Markdown of one model; `figures` are (title, path) of its pictures."""
    machine, others = result["machine"], loads(result)
    when = sorted({sample["time"] for sample in result["samples"]})
    parts = [f"### {result['title']}\n"]
    if when and others:
        sets = ", ".join(machine["instruction_sets"])
        made = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        quiet = "" if not noisy(others) else ", so **the machine was not quiet and the figures are provisional**"
        parts.append(
            f"`{result['file']}`. {machine['cpu']}, {machine['cores']} cores ({sets}), {when[0].replace('T', ' ')} to "
            f"{when[-1][11:]} UTC. Other processes took {statistics.mean(others):.2f} cores on average, "
            f"{max(others):.2f} at most{quiet}. {made}.\n")
    for reason in result.get("left_out", []):
        parts.append(f"Left out: {reason}\n")
    for threads in sorted({s["threads"] for s in result["samples"] if s["part"] == "offline"}, reverse=True):
        table = collect(result, "offline", threads=threads)
        parts.append(f"Engines, {threads} {'thread' if threads == 1 else 'threads'}, tokens/s:\n")
        parts.append(ratio_table(table, result.get("floors", {}).get(str(threads))))
        profile = result.get("profiles", {}).get(str(threads))
        if profile:
            shares = f"attention {profile['attention']:.0%}, MLP {profile['mlp']:.0%}, the rest {profile['rest']:.0%}"
            parts.append(f"Tandem's compute time over this table: {shares} (the head counts as the rest).\n")
    for title, body in (
        ("Served, 128 tokens in and 64 out:", served_table(result)),
        ("With another process busy on one core:", contention_table(result)), ("Targets:", targets(result)),
    ):
        if body:
            parts += [title + "\n", body]
    if result.get("floors"):
        parts += ["The machine's limits, the best of that day's runs:\n", rates(result["floors"])]
    parts += [f"![{title}]({path})\n" for title, path in figures]
    return "\n".join(parts)


def loads(result):
    """Cores that others kept busy before each sample; a contention sample with its own disturber has none."""
    return [sample["others"] for sample in result["samples"] if sample["others"] is not None]


def noisy(others):
    return statistics.mean(others) > 0.15
