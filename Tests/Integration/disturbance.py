"""Something happens to a server while it answers, and nobody sees it in the answers."""
import time

COMPLETIONS = "/v1/completions"


def longest_pause(test, server, requests, undisturbed, what, tokens):
    """Streams `requests`, does `what` once each has `tokens` tokens, and proves that they end as `undisturbed` says.

    Returns for how many seconds the first one paused.
    """
    streams = [server.stream(COMPLETIONS, **fields) for fields in requests]
    for stream in streams:
        test.addCleanup(stream.close)
    for stream in streams:
        stream.read(tokens)
    what()
    pause, last = 0, time.monotonic()
    while streams[0].next() is not None:
        pause, last = max(pause, time.monotonic() - last), time.monotonic()
    for stream in streams:
        stream.finish()
    for stream, whole in zip(streams, undisturbed):
        for choice in whole["choices"]:
            test.assertEqual(stream.text(choice["index"]), choice["text"])
            test.assertEqual(stream.finish_reason(choice["index"]), choice["finish_reason"])
    return pause
