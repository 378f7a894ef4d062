"""The same for a gateway in front of servers that are not its own: each a Tandem with one engine, reached over HTTP.

Here a stream whose server is lost may go on elsewhere or end with an error that says so; that it ends in silence, or
with words that the servers did not say, is a mistake all the same.
"""
import asyncio
import contextlib
import os
import pathlib
import signal
import socket

import chaos_faults
import chaos_watch
import serving

KINDS = {"kill": 30, "freeze": 12, "long freeze": 8, "cut": 20, "terminate": 10, "two at once": 8, "all at once": 4}


class Fleet(serving.Server):
    """A `tandem gateway` with its servers, which are started again when they end, as an operator would."""

    def __init__(self, *options, engines, gateway_options):
        self.backends = [serving.Server(*options, engines=1) for _ in range(engines)]
        super().__init__(*gateway_options, engines=engines)

    def command(self):
        addresses = ",".join(f"http://{serving.HOST}:{backend.port}" for backend in self.backends)
        return [serving.BINARY, "gateway", "--port", str(self.port), "--endpoints", addresses, *self.options]

    def start(self):
        try:
            for backend in self.backends:
                backend.start()
            return super().start()
        except BaseException:
            self.discard()
            raise

    def children(self):
        found = {"gateway": self.process.pid}
        for index, backend in enumerate(self.backends):
            if backend.process.poll() is None:
                found[f"engine {index}"] = backend.process.pid
        return found

    async def keep(self):
        """Starts servers again that ended."""
        while True:
            for backend in self.backends:
                if backend.process.poll() is not None:
                    # Its children end with it, and the port is free a moment later.
                    with contextlib.suppress(AssertionError):
                        await asyncio.to_thread(backend.check_nothing_is_left, False)
                    backend.launch()
            await asyncio.sleep(0.05)

    def holdings(self):
        """The gateway's, but for the connections to servers that it keeps for later."""
        found = chaos_watch.Holdings.of(self.process.pid)
        kept = set().union(*(_inodes_of_connections(backend.port) for backend in self.backends))
        for entry in os.listdir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(OSError):
                found.descriptors -= os.readlink(f"/proc/{self.process.pid}/fd/{entry}")[8:-1] in kept
        return {"gateway": found}

    def is_accepting(self, index):
        return self.backends[index].port in serving.listening_ports()

    def stop_in_good_order(self):
        for backend in self.backends:
            backend.stop()

    def discard(self):
        for backend in self.backends:
            backend.discard()
        super().discard()

    def output(self):
        return "\n".join([super().output(), *(backend.output()[-2000:] for backend in self.backends)])


def _inodes_of_connections(port):
    """Inodes of the sockets that are connected to a port."""
    found = set()
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        # Those that the server closed count until the gateway has noticed.
        if int(fields[2].rpartition(":")[2], 16) == port and fields[3] in ("01", "08"):
            found.add(fields[9])
    return found


class FleetInjector(chaos_faults.Injector):
    """Does the same to whole servers."""

    def __init__(self, fleet, log):
        self.server, self.log = fleet, log
        self.gateway_deaths = []
        self.stopped, self.tasks, self.relays = set(), set(), {}

    def process_of(self, engine):
        return self.server.children().get(f"engine {engine}") if self.server.is_accepting(engine) else None

    async def inject(self, fault):
        kind, victims = fault.kind, fault.victims
        if kind in ("freeze", "long freeze"):
            await self.living(victims[0])
            await self._freeze_all(fault, self.server.backends[victims[0]])
        elif kind == "cut":
            await self.living(victims[0])
            self._mark(fault)
            fault.note = f"{self._cut(victims[0])} connections"
        elif kind == "two at once":
            pid = await self.living(victims[0])
            self._mark(fault)
            self._signal(pid, signal.SIGKILL)
            self._cut(victims[-1])
        else:
            await super().inject(fault)

    async def _freeze_all(self, fault, backend):
        pids = [process.pid for process in backend.processes()]
        self._mark(fault)
        for pid in pids:
            self._signal(pid, signal.SIGSTOP)
        self.stopped.update(pids)

        async def end():
            await asyncio.sleep(fault.amount)
            for pid in pids:
                self._signal(pid, signal.SIGCONT)
            self.stopped.difference_update(pids)

        self._later(end())

    def _cut(self, index):
        gateway = self.server.process.pid
        inodes = _inodes_of_connections(self.server.backends[index].port)
        cut = 0
        pidfd = os.pidfd_open(gateway)
        try:
            for entry in os.listdir(f"/proc/{gateway}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{gateway}/fd/{entry}")
                    if target.startswith("socket:[") and target[8:-1] in inodes:
                        with socket.socket(fileno=chaos_faults.descriptor_of(pidfd, int(entry))) as link:
                            link.shutdown(socket.SHUT_RDWR)
                            cut += 1
        finally:
            os.close(pidfd)
        return cut
