"""What is done to the server, drawn from a seed, and how it is done."""
import asyncio
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import random
import resource
import select
import signal
import socket
import time

import chaos_relay

# Weights of the kinds; the gateway's is used in the first part of a run only, so that one gateway lives through the
# rest, whose memory can be followed.
KINDS = {
    "kill": 22, "freeze": 12, "long freeze": 8, "starve": 9, "cut": 10, "cut in a frame": 12, "stall": 5, "delay": 5,
    "terminate": 7, "two at once": 8, "all at once": 5,
}
# What can happen to a GPU that engines share, beside all that.
MPS_KINDS = {**KINDS, "device fault": 16, "mps server": 8, "mps daemon": 6}
# What can happen to a GPU that is simulated, beside all that.
SIMULATED_KINDS = {**KINDS, "gpu fault": 14, "gpu memory": 6, "gpu hang": 4, "gpu killed": 8, "gpu slow": 4}
# What can happen to a GPU whose driver is the stand-in, beside all that; with MPS also what can happen to it.
CUDA_KINDS = {**KINDS, "gpu fault": 16, "gpu memory": 6, "gpu hang": 3, "gpu refusal": 5}
CUDA_MPS_KINDS = {**CUDA_KINDS, "mps server": 8, "mps daemon": 6}
# What the stand-in does then, and to which piece of work from now on: the Nth.
CUDA_FAULTS = {
    "gpu fault": (["launch", "copy"], [700, 719]), "gpu memory": (["launch", "allocate"], [2]),
    "gpu hang": (["launch", "copy"], ["hang"]), "gpu refusal": (["launch"], [805, 807, 808, 809, 810]),
}
# Lines that the virtual device's control socket is told; {} is an engine.
GPU_COMMANDS = {
    "gpu fault": "fault fatal {}", "gpu memory": "fault oom {}", "gpu hang": "fault hang {}", "gpu slow": "fault slow 3 {}",
}
# Those that reach into the sockets of other processes.
CUTTING = {"cut", "cut in a frame", "stall", "delay", "two at once"}
GATEWAY_SHARE = 0.25
GATEWAY_PART = 0.3


@dataclasses.dataclass
class Fault:
    number: int
    kind: str
    # It comes when so many requests were sent, and not sooner than `gap` seconds after the one before.
    position: int
    gap: float
    victims: list
    amount: float = 0
    detail: tuple = ()
    at: float = None
    ended: float = None
    note: str = ""


def faults(seed, count, requests, engines, gap, longest_freeze=8.0, kinds=None, table=KINDS):
    """The sequence of faults: the same for the same seed. `table` has the weights of what there is."""
    draw = random.Random(f"faults {seed}")
    positions = sorted(draw.uniform(0.02, 0.96) for _ in range(count))
    weights = {kind: weight for kind, weight in table.items() if kinds is None or kind in kinds}
    if longest_freeze <= 1:
        weights.pop("long freeze", None)
    result = []
    for number, place in enumerate(positions):
        kind = draw.choices(list(weights), list(weights.values()))[0]
        # Drawn in any case, so that a choice of kinds changes nothing else.
        gateway = draw.random() < GATEWAY_SHARE and place < GATEWAY_PART
        if gateway and table in (KINDS, MPS_KINDS, SIMULATED_KINDS, CUDA_KINDS, CUDA_MPS_KINDS) and (kinds is None or "gateway" in kinds):
            kind = "gateway"
        victims = draw.sample(range(engines), min(2, engines))
        fault = Fault(number, kind, int(place * requests), draw.expovariate(1 / gap), victims)
        fault.amount = draw.uniform(0.1, 1) if kind == "freeze" else draw.uniform(1, max(1.0, longest_freeze))
        direction = draw.choice(["up", "up", "down"])
        size = int(10 ** draw.uniform(2.3, 4.6))
        fault.detail = {
            "cut in a frame": ("cut", direction, size), "stall": ("stall", direction, size, draw.uniform(0.3, 3)),
            "delay": ("delay", draw.uniform(0.01, 0.15)), "two at once": draw.choice(["kill", "cut", "starve"]),
        }.get(kind, ())
        if kind in CUDA_FAULTS and table in (CUDA_KINDS, CUDA_MPS_KINDS):
            work, code = (draw.choice(choices) for choices in CUDA_FAULTS[kind])
            # The kernels of a step are some dozens; memory is rarely taken.
            fault.detail = f"{work}:{1 if work == 'allocate' else draw.randint(1, 100)}={code}"
        result.append(fault)
    return result


# MARK: Means

_libc = ctypes.CDLL(None, use_errno=True)


def descriptor_of(pidfd, descriptor):
    """A duplicate of another process's descriptor."""
    # pidfd_getfd has this number on all of Linux.
    result = _libc.syscall(438, pidfd, descriptor, 0)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _link_inodes(path):
    """Inodes of the connected sockets that were accepted at a path."""
    found = set()
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7] in (str(path), str(path.with_suffix(".real"))) and fields[5] == "03":
            found.add(fields[6])
    return found


def cut_links(pid, path):
    """Shuts the connections down that an engine accepted; gives how many."""
    inodes = _link_inodes(path)
    cut = 0
    pidfd = os.pidfd_open(pid)
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                if not target.startswith("socket:[") or target[8:-1] not in inodes:
                    continue
                duplicate = descriptor_of(pidfd, int(entry))
            except FileNotFoundError:
                continue
            with socket.socket(fileno=duplicate) as link, contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
                cut += 1
    finally:
        os.close(pidfd)
    return cut


def can_cut_links():
    """Whether this system lets us reach into our children's sockets."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        os.close(descriptor_of(pidfd, 0))
        return True
    except OSError:
        return False
    finally:
        os.close(pidfd)


def address_space(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


async def ended(pid, seconds):
    """Waits until a process is gone; false if it is not in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([pidfd], [], [], 0)[0]:
                return True
            await asyncio.sleep(0.002)
        return False
    finally:
        os.close(pidfd)


class Injector:
    """Does to a server what faults say. `gateway_deaths` are the moments between which a gateway died."""

    def __init__(self, server, log):
        self.server, self.log = server, log
        self.gateway_deaths = []
        self.relays = {}
        self.stopped = set()
        self.tasks = set()
        self.run_directory = next(
            path for path in server.runtime.iterdir() if path.name.startswith("tandem-") and "mps" not in path.name)

    def socket_of(self, engine):
        return self.run_directory / f"engine-{engine}.sock"

    def process_of(self, engine):
        """An engine's process id; none before it has a socket."""
        pid = self.server.children().get(f"engine {engine}")
        return pid if pid and self.socket_of(engine).exists() else None

    async def living(self, engine, seconds=60):
        """An engine's process id, waited for if it is being started."""
        deadline = time.monotonic() + seconds
        while not (pid := self.process_of(engine)):
            if time.monotonic() > deadline:
                raise AssertionError(f"engine {engine} does not come back within {seconds} s")
            await asyncio.sleep(0.02)
        return pid

    async def inject(self, fault):
        """Begins a fault; what it takes back later (a freeze's end) happens in a task of its own."""
        kind, first = fault.kind, fault.victims[0]
        if kind == "gateway":
            await self._kill_gateway(fault)
        elif kind in ("kill", "terminate"):
            pid = await self.living(first)
            self._mark(fault)
            self._signal(pid, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        elif kind in ("freeze", "long freeze"):
            await self._freeze(fault, first)
        elif kind == "starve":
            await self._starve(fault, first)
        elif kind == "cut":
            pid = await self.living(first)
            self._mark(fault)
            fault.note = f"{cut_links(pid, self.socket_of(first))} links"
        elif kind in ("cut in a frame", "stall", "delay"):
            await self._relay(fault, first)
        elif kind == "two at once":
            await self._two(fault)
        elif kind == "all at once":
            pids = [await self.living(index) for index in range(self.server.engines)]
            self._mark(fault)
            for pid in pids:
                self._signal(pid, signal.SIGKILL)
        elif kind in CUDA_FAULTS and self.server.gpu:
            self._mark(fault)
            fault.note = fault.detail
            # A start that hangs is given minutes: this is for one that serves.
            pid = await self.living(first) if kind == "gpu hang" else None
            self._later(self._taken(fault, self.server.gpu.plan(fault.detail, pid)))
        elif kind in GPU_COMMANDS:
            await self.living(first)
            self._mark(fault)
            fault.note = await asyncio.to_thread(self._tell_device, GPU_COMMANDS[kind].format(first))
        elif kind == "gpu killed":
            pid = self.server.children().get("device")
            self._mark(fault)
            if pid:
                self._signal(pid, signal.SIGKILL)
        elif kind == "device fault":
            self._mark(fault)
            self.server.fake.fault()
        elif kind in ("mps server", "mps daemon"):
            pids = self.server.fake.servers() if kind == "mps server" else self.server.fake.daemon()
            self._mark(fault)
            # None while another fault is being dealt with.
            for pid in pids:
                self._signal(pid, signal.SIGKILL)
            fault.note = f"{len(pids)} processes"
        else:
            raise AssertionError(kind)

    def _mark(self, fault):
        fault.at = fault.at or time.monotonic()

    @staticmethod
    def _signal(pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def _taken(self, fault, file):
        """Which of the engines gets it is chance: the first that computes."""
        for _ in range(500):
            if not file.exists():
                fault.at = time.monotonic()
                return
            await asyncio.sleep(0.01)
        self.server.gpu.take_back()
        fault.note += ", missed"

    def _tell_device(self, line):
        """The answer of a virtual device; none while it is started again."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.run_directory / "device-control.sock"))
            control.sendall(line.encode() + b"\n")
            return control.recv(4096).decode().strip()
        return "missed"

    def _later(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _kill_gateway(self, fault):
        while not (pid := self.server.children().get("gateway")):
            await asyncio.sleep(0.01)
        self._mark(fault)
        self._signal(pid, signal.SIGKILL)
        assert await ended(pid, 10), "a gateway outlives SIGKILL"
        self.gateway_deaths.append((fault.at, time.monotonic()))

    async def _freeze(self, fault, engine):
        pid = await self.living(engine)
        self._mark(fault)
        self._signal(pid, signal.SIGSTOP)
        self.stopped.add(pid)
        fault.note = f"{fault.amount:.1f} s"

        async def end():
            await asyncio.sleep(fault.amount)
            self._signal(pid, signal.SIGCONT)
            self.stopped.discard(pid)
            fault.ended = time.monotonic()

        self._later(end())

    async def _starve(self, fault, engine):
        pid = await self.living(engine)
        self._mark(fault)
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid) // 2, hard))
        except (ProcessLookupError, FileNotFoundError):
            return

        async def end():
            dead = await ended(pid, 4)
            fault.note = "died of it" if dead else "lived"
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))

        self._later(end())

    async def _relay(self, fault, engine):
        # One that stands there gives the name back first.
        while engine in self.relays and self.relays[engine].server is not None:
            await asyncio.sleep(0.05)
        pid = await self.living(engine)
        relay = chaos_relay.Relay(self.socket_of(engine), fault.detail)
        pidfd = None
        try:
            # Asked of the process itself: the list of a process's children may lack some while others end.
            pidfd = os.pidfd_open(pid)
            await relay.install()
        except OSError:
            # The engine died at this moment; its successor takes the name.
            if pidfd is not None:
                os.close(pidfd)
            self._mark(fault)
            fault.note = "missed"
            return
        self.relays[engine] = relay
        self._mark(fault)
        cut_links(pid, self.socket_of(engine))

        def same_engine():
            return not select.select([pidfd], [], [], 0)[0]

        async def end():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(relay.connected.wait(), 5)
                relay.restore(same_engine)
                fault.at = time.monotonic()
                await asyncio.wait_for(relay.done.wait(), 20)
                fault.at = time.monotonic() if fault.kind != "delay" else fault.at
            relay.restore(same_engine)
            os.close(pidfd)
            if self.relays.get(engine) is relay:
                del self.relays[engine]
            fault.note = str(fault.detail)

        self._later(end())

    async def _two(self, fault):
        first = await self.living(fault.victims[0])
        second = await self.living(fault.victims[1]) if len(fault.victims) > 1 else None
        self._mark(fault)
        self._signal(first, signal.SIGKILL)
        if second:
            if fault.detail == "kill":
                self._signal(second, signal.SIGKILL)
            elif fault.detail == "cut":
                with contextlib.suppress(OSError):
                    cut_links(second, self.socket_of(fault.victims[1]))
            else:
                await self._starve(fault, fault.victims[1])
        fault.note = f"kill and {fault.detail}"

    async def settle(self):
        """Waits for all that was begun, and undoes what is left."""
        while self.tasks:
            await asyncio.wait(list(self.tasks))
        for pid in list(self.stopped):
            self._signal(pid, signal.SIGCONT)
