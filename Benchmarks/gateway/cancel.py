"""How long it takes until an engine is told that a client has left: a gateway before mock engines behind links.

Clients open a stream, take some tokens and leave, one after the other, while others read theirs. Measured is the time from
the client's `close` to the moment when the engine reads the cancel; both are in one process.
"""
STEP = 10_000_000


def run(engines, gateway, cancels, say, streams=(0, 64)):
    rows = []
    for others in streams:
        for resets in (False, True):
            row = engines.order(
                cancels=cancels, port=gateway.port, model=gateway.model, over_link=True, resets=resets, stream=True,
                connections=others, tokens=4000, interval=STEP, warm=0, seconds=cancels * 0.03 + 1)
            row.update(streams=others, resets=resets)
            rows.append(row)
            say(
                f"cancel: {others:2} other streams, {'reset ' if resets else 'closed'}: {row['cancels']} of {cancels}, "
                + ", ".join(f"{name} {row[f'{name}_milliseconds']:.2f} ms" for name in ("p50", "p99", "max")))
    return rows
