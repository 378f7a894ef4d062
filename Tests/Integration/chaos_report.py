"""Tables of a run, and its verdict in one line."""
def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def silences(run):
    """Of each fault, the longest silence that a stream which was open then began with, by kind."""
    found = {}
    for fault in run.faults:
        if fault.at is None:
            continue
        longest = 0.0
        for times in run.streams:
            if times[0] <= fault.at <= times[-1]:
                later = next(when for when in times if when >= fault.at)
                longest = max(longest, later - fault.at)
        found.setdefault(fault.kind, []).append(longest)
    return found


def report(run):
    """Tables of a run, and its verdict in one line."""
    lines = ["", f"{'requests':24} {'answered':>9}"]
    kinds = {}
    for (kind, behaviour), count in sorted(run.answered.items()):
        name = kind if behaviour in ("plain", kind) else f"{kind}, {behaviour}"
        kinds[name] = kinds.get(name, 0) + count
    lines += [f"  {name:22} {count:9}" for name, count in sorted(kinds.items())]
    lines += [f"  {'all':22} {sum(kinds.values()):9}", ""]
    lines.append(f"{'faults':24} {'count':>9}   longest silence of a stream: p50, p99, max")
    for kind, values in sorted(silences(run).items()):
        lines.append(
            f"  {kind:22} {len(values):9}   {percentile(values, 0.5) * 1000:8.0f} "
            f"{percentile(values, 0.99) * 1000:8.0f} {max(values) * 1000:8.0f} ms")
    lines += [f"  {'all':22} {sum(1 for fault in run.faults if fault.at):9}", ""]
    notes = {}
    for fault in run.faults:
        if fault.kind == "starve":
            notes[fault.note] = notes.get(fault.note, 0) + 1
    lines.append(
        f"{run.watch.retries:.0f} sequences were submitted again; {sum(run.retried.values())} requests were sent again "
        f"because the gateway died; {run.busy} were told to come back (429)")
    if run.outcomes:
        lines.append(
            "streams of servers that were lost: "
            + ", ".join(f"{count} {outcome}" for outcome, count in sorted(run.outcomes.items())))
    if notes:
        lines.append("starved engines: " + ", ".join(f"{count} {note}" for note, count in sorted(notes.items())))
    lines.append(
        f"at most {run.watch.most_unfinished:.0f} sequences at once, {run.watch.most_preemptions:.0f} or more "
        f"preempted; load for {run.seconds['load']:.0f} s")
    if run.memory:
        first, last, seconds = run.memory
        lines.append(
            f"memory of the last gateway over {seconds:.0f} s: {first / 2**20:.1f} MiB in the first third, "
            f"{last / 2**20:.1f} MiB in the last")
    for name in run.before:
        lines.append(
            f"{name}: {run.before[name].descriptors} descriptors and {run.before[name].threads} threads before, "
            f"{run.after[name].descriptors} and {run.after[name].threads} after" if name in run.after else name)
    for title, found in (("failed", run.failed), ("wrong", run.wrong), ("leaked", run.leaked)):
        lines += [f"{title}: {text}" for text in found[:20]]
    lines.append("")
    lines.append(f"{len(run.failed)} failed, {len(run.wrong)} wrong, {len(run.leaked)} leaked")
    return "\n".join(lines)
