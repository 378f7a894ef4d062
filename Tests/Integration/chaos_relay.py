"""Stands between a gateway and an engine: forwards bytes, then delays, stalls or cuts them at a chosen byte."""
import asyncio
import contextlib
import os
import socket


class Relay:
    """Takes the place of an engine's socket file until it is told to give it back.

    `plan` decides what happens on the next connection: ("cut", direction, bytes), ("delay", seconds),
    ("stall", direction, bytes, seconds), or None to forward.
    """

    def __init__(self, path, plan):
        self.path, self.plan = path, plan
        self.real = path.with_suffix(".real")
        self.server = None
        self.inode = None
        self.connected = asyncio.Event()
        # Set when what was planned has happened, or the connection has ended before.
        self.done = asyncio.Event()
        self.pipes = set()

    async def install(self):
        # The name is given back only if it is still ours: a new engine may have taken it.
        self.path.rename(self.real)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        os.chmod(self.path, 0o600)
        self.inode = self.path.stat().st_ino
        self.server = await asyncio.start_unix_server(self._connected, sock=listener, limit=1 << 16)

    def restore(self, same_engine):
        """Gives the name back to the engine, if it still runs; connections that were made go on.

        A closed listener takes its socket file away, so that is done before the name returns.
        """
        if self.server is None:
            return
        self.server.close()
        self.server = None
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()
        if same_engine() and not self.path.exists():
            with contextlib.suppress(OSError):
                self.real.rename(self.path)
        else:
            with contextlib.suppress(OSError):
                self.real.unlink()

    def close(self):
        for pipe in list(self.pipes):
            pipe.cancel()

    async def _connected(self, reader, writer):
        try:
            engine_reader, engine_writer = await asyncio.open_unix_connection(str(self.real), limit=1 << 16)
        except OSError:
            writer.close()
            self.done.set()
            return
        self.connected.set()
        writers = (writer, engine_writer)
        pipes = [
            asyncio.ensure_future(self._pump("down", reader, engine_writer)),
            asyncio.ensure_future(self._pump("up", engine_reader, writer)),
        ]
        self.pipes.update(pipes)
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            for end in writers:
                end.transport.abort()
            self.pipes.difference_update(pipes)
            self.done.set()

    async def _pump(self, direction, reader, writer):
        kind, *details = self.plan or ("none",)
        left = details[1] if kind in ("cut", "stall") and details[0] == direction else None
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 15):
                if kind == "delay":
                    await asyncio.sleep(details[0])
                if left is not None:
                    if len(data) >= left:
                        writer.write(data[:left])
                        await writer.drain()
                        if kind == "cut":
                            # What was written before the cut shall arrive.
                            return
                        self.done.set()
                        await asyncio.sleep(details[2])
                        data, left = data[left:], None
                    else:
                        left -= len(data)
                writer.write(data)
                await writer.drain()
