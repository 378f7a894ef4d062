"""What the server's processes hold, watched from outside: memory, descriptors, threads, counters."""
import asyncio
import contextlib
import dataclasses
import os
import pathlib
import statistics
import time

import chaos_client
import mps_stand_in
import serving
from serving import Metrics

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(supervisor):
    """Process ids of a supervisor's children by name: `gateway`, `engine 0`, …"""
    found = {}
    with contextlib.suppress(OSError):
        for pid in pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            with contextlib.suppress(OSError, IndexError):
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                role = words[1].decode()
                if role == "gateway":
                    found[role] = int(pid)
                elif role == "virtual-device":
                    found["device"] = int(pid)
                elif role == "engine":
                    first = int(words[words.index(b"--index") + 1])
                    for place in range(words.count(b"--link")):
                        found[f"engine {first + place}"] = int(pid)
    return found


def zombies(supervisor):
    """Children that ended and were not waited for."""
    found = []
    with contextlib.suppress(OSError):
        for pid in pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            with contextlib.suppress(OSError):
                state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z":
                    found.append(int(pid))
    return found


def resident(pid):
    """Memory of a process, in bytes."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@dataclasses.dataclass
class Holdings:
    """What one process holds at a moment."""

    descriptors: int
    threads: int

    def least(self, other):
        return Holdings(min(self.descriptors, other.descriptors), min(self.threads, other.threads))

    @staticmethod
    def of(pid):
        return Holdings(len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


class TandemServer(serving.Server):
    """A server that knows its processes cheaply."""

    # The GPU of its engines, if it is a stand-in.
    gpu = None

    def __init__(self, *options, gpu=None, environment=None, **more):
        if gpu:
            self.gpu = gpu
            environment = {**(environment or {}), **gpu.environment}
        super().__init__(*options, environment=environment, **more)

    def discard(self):
        super().discard()
        if self.gpu:
            self.gpu.discard()

    def children(self):
        return children(self.process.pid)

    def holdings(self):
        found = {"supervisor": Holdings.of(self.process.pid)}
        for name, pid in self.children().items():
            with contextlib.suppress(OSError):
                found[name] = Holdings.of(pid)
        return found


class SharingServer(TandemServer):
    """One whose engines share a device by MPS."""

    def __init__(self, *options, **more):
        self.fake = mps_stand_in.FakeMPS("new")
        super().__init__(
            "--mps", "on", "--fault-port", "--mps-time-scale", "0.1", *options, runtime=self.fake.run,
            environment=self.fake.environment, **more)

    def check_nothing_is_left(self, directory=True):
        # The logs of MPS stay.
        super().check_nothing_is_left(directory=False)
        assert not self.fake.daemon() and not self.fake.servers(), "processes of MPS are left"

    def discard(self):
        super().discard()
        self.fake.discard()


async def metrics(port):
    return Metrics(await exposition(port))


async def exposition(port):
    connection = await chaos_client.Connection(port).open()
    try:
        reply = await asyncio.wait_for(connection.ask("GET", "/metrics"), 20)
        return reply.body.decode()
    finally:
        await connection.closed()


class Watch:
    """Samples a running server."""

    def __init__(self, server):
        self.server = server
        # (time, process id, bytes)
        self.memory = []
        self.retries = 0
        self._last_retries = (None, 0)
        self.most_unfinished = 0
        self.most_preemptions = 0
        self.zombies_seen = {}

    async def run(self, interval=0.5):
        while True:
            await self.sample()
            await asyncio.sleep(interval)

    async def sample(self):
        supervisor = self.server.process.pid
        pid = self.server.children().get("gateway")
        now = time.monotonic()
        with contextlib.suppress(OSError):
            if pid:
                self.memory.append((now, pid, resident(pid)))
        # One that is seen twice was not waited for.
        seen = zombies(supervisor)
        self.zombies_seen = {zombie: self.zombies_seen.get(zombie, 0) + 1 for zombie in seen}
        with contextlib.suppress(OSError, chaos_client.Broken, asyncio.TimeoutError):
            found = await metrics(self.server.port)
            self._count(
                pid,
                found.total("tandem_router_retries_total") + found.total("tandem_router_migrations_total"))
            self.most_unfinished = max(
                self.most_unfinished, found.total("tandem_gateway_unfinished_sequences"))
            # Counted since the engines' starts; a lower bound is enough to see that there were some.
            preemptions = found.all("vllm:num_preemptions_total").values()
            self.most_preemptions = max(self.most_preemptions, sum(preemptions))

    def _count(self, pid, retries):
        """Counters begin anew with every gateway."""
        before, value = self._last_retries
        self.retries += retries - value if before == pid else retries
        self._last_retries = (pid, retries)

    def memory_of_last_gateway(self):
        """(median of the first third, of the last third, how long it was watched, in seconds), in bytes."""
        if not self.memory:
            return None
        last = self.memory[-1][1]
        samples = [(when, size) for when, pid, size in self.memory if pid == last]
        third = len(samples) // 3
        if third < 5:
            return None
        sizes = [size for _, size in samples]
        return (
            statistics.median(sizes[:third]), statistics.median(sizes[-third:]), samples[-1][0] - samples[0][0])
