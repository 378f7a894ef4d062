"""Clients that ask for nothing sensible, or take their time: the others must not feel them."""
import asyncio
import contextlib
import time

import chaos_requests
from chaos_answers import Failed
from chaos_client import Broken, Connection


async def garbage(run, request):
    """The server answers with a client error or closes; it does not keep the connection for long."""
    connection = await Connection(run.server.port).open()
    try:
        await connection.send(request.noise)
        data = await asyncio.wait_for(connection.reader.read(200), 45)
        status = data.split(b" ")[1:2]
        if data and not (status and (status[0].startswith(b"4") or status[0] in (b"501", b"505"))):
            raise Failed(f"garbage was answered by {data!r}")
    except asyncio.TimeoutError:
        raise Failed("garbage is neither answered nor refused within 45 s") from None
    except (Broken, OSError):
        pass
    finally:
        connection.abort()


async def half(run, request):
    connection = await Connection(run.server.port).open()
    with contextlib.suppress(Broken):
        await connection.send(request.noise)
    await asyncio.sleep(request.amount)
    connection.abort()


async def idle(run, request):
    """A connection that rests between two requests."""
    while True:
        connection = await Connection(run.server.port).open()
        try:
            for wait in (request.amount, 0):
                reply = await asyncio.wait_for(connection.ask("GET", "/live"), 60)
                if reply.status != 200:
                    raise Failed(f"/live: {reply.status}")
                await asyncio.sleep(wait)
            return
        except (Broken, OSError):
            await asyncio.sleep(0.3)
            if not run.was_killed(connection, time.monotonic()):
                raise
            run.retry("gateway died")
        finally:
            await connection.closed()


async def flood(run, request):
    """More sequences than the server may hold: refused with 429, or given up at once."""
    body = b'{"prompt": [%s], "n": 128, "max_tokens": 1, "seed": 1}' % b", ".join([b'"flood"'] * 32)

    def over():
        run.flooding -= 1

    connection = await Connection(run.server.port).open()
    run.flooding += 1
    try:
        reply = await asyncio.wait_for(connection.ask("POST", chaos_requests.COMPLETIONS, body), 0.5)
        if reply.status == 429:
            run.busy += 1
            if "retry-after" not in reply.headers:
                raise Failed("429 without Retry-After")
        elif reply.status != 200:
            raise Failed(f"a flood was answered by {reply.status} {reply.body[:200]!r}")
    except (asyncio.TimeoutError, Broken, OSError):
        pass
    finally:
        connection.abort()
        # Whoever was refused meanwhile may hear of it a moment later.
        asyncio.get_running_loop().call_later(10, over)


BEHAVIOURS = {"garbage": garbage, "half": half, "idle": idle, "flood": flood}
