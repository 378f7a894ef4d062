"""Breaks a running server again and again under mixed load and proves that nobody noticed; see Scripts/chaos."""
import asyncio
import contextlib
import dataclasses
import itertools
import random
import signal
import time
import traceback

import chaos_answers
import chaos_external
import chaos_faults
import chaos_noise
import chaos_requests
import chaos_watch
import gpu_stand_in
import serving
from chaos_answers import Failed
from chaos_client import Broken, Connection, Malformed, Reply

# Those that take their time do not keep others from being sent.
_LEISURELY = {"slow", "idle", "half", "garbage"}
# An answer that takes longer is lost.
PATIENCE_SECONDS = 150


@dataclasses.dataclass
class Plan:
    """One run; everything that happens follows from it, but for its timing."""

    seed: int
    requests: int
    faults: int
    engines: int
    options: tuple
    bodies: int = 400
    clients: int = 24
    # Mean seconds between two faults.
    gap: float = 2.0
    longest: int = 200
    long_prompt: int = 900
    longest_freeze: float = 8.0
    kinds: tuple = None
    # After so many seconds nothing new is begun, however much is left.
    most_seconds: float = 1e9
    # Whether the engines are servers of their own, behind `tandem gateway --endpoints`.
    external: bool = False
    # Whether the engines share a device by MPS, whose programs are stand-ins.
    mps: bool = False
    # Whether the engines have a simulated GPU.
    simulated: bool = False
    # Whether the engines have a GPU whose driver is the stand-in; with `mps` they share it.
    cuda: bool = False
    gateway_options: tuple = ()
    sabotage: str = None


class Run:
    """A server, its clients, its faults, and the verdict."""

    def __init__(self, plan, say=print):
        self.plan, self.say = plan, say
        self.server = None
        self.injector = None
        self.failed, self.wrong, self.leaked = [], [], []
        self.answered, self.retried, self.busy = {}, {}, 0
        # When the events of each stream came.
        self.streams = []
        self.sent = 0
        self.fired = 0
        self.flooding = 0
        self.progress = asyncio.Event()
        self.held = []
        self.aside = set()
        self.faults = []
        # Of streams that external servers were to go on with.
        self.outcomes = {}
        # Whether all faults have come.
        self.is_broken = False
        self.before, self.after, self.memory = {}, {}, None
        self.random = random.Random(f"run {plan.seed}")
        self.seconds = {}

    # MARK: Preparing

    def start_server(self):
        gpu = gpu_stand_in.StandInGPU(shared=self.plan.mps) if self.plan.cuda else None
        kind = chaos_watch.SharingServer if self.plan.mps else chaos_watch.TandemServer
        return kind(*self.plan.options, engines=self.plan.engines, gpu=gpu).start()

    def start_fleet(self):
        return chaos_external.Fleet(
            *self.plan.options, engines=self.plan.engines, gateway_options=self.plan.gateway_options).start()

    async def references(self):
        """The pool of bodies with their answers by a server that nobody disturbs."""
        began = time.monotonic()
        server = self.start_server()
        try:
            server.wait_for_all_engines()
            pieces = sorted(set(server.tokenize(chaos_requests.SPLIT_CHARACTERS, add_special_tokens=False)))
            author = chaos_requests.Author(self.plan.seed, pieces, self.plan.longest, self.plan.long_prompt)
            pool = [author.body(key) for key in range(self.plan.bodies)]
            await self._in_parallel(pool, lambda body, link: self._reference(body, link, server.port))
            server.stop()
        except BaseException:
            self.say(server.output()[-8000:])
            raise
        finally:
            server.discard()
        self.seconds["references"] = time.monotonic() - began
        # What a gateway refuses itself it says in its own words.
        return [body for body in pool if not self.plan.external or body.kind != "refused"]

    async def _in_parallel(self, items, work, clients=8):
        waiting = list(reversed(items))

        async def client():
            link = []
            try:
                while waiting:
                    await work(waiting.pop(), link)
            finally:
                for connection in link:
                    await connection.closed()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def _reference(self, body, link, port):
        if body.stop:
            await self._choose_stop(body, link, port)
        body.expected = chaos_answers.answer(await self._undisturbed(body.path, body.data, link, port))

    async def _choose_stop(self, body, link, port):
        """Takes a stop string out of what the body would answer without one, often in the middle of tokens."""
        stream = body.fields.pop("stream", None)
        document = chaos_answers.answer(await self._undisturbed(body.path, body.data, link, port))
        if stream:
            body.fields["stream"] = stream
        text = max(chaos_answers.texts(document) or [""], key=len)
        share, length = body.stop
        start = int(share * len(text))
        if text[start : start + length]:
            body.fields["stop"] = [text[start : start + length], "never \0 said"]

    async def _undisturbed(self, path, data, link, port):
        if not link or not link[-1].is_open:
            link.append(await Connection(port).open())
        return await asyncio.wait_for(link[-1].ask("POST", path, data), PATIENCE_SECONDS)

    # MARK: Running

    async def run(self):
        """True if nothing failed, was wrong or leaked."""
        pool = await self.references()
        refused = sum(1 for body in pool if body.expected["status"] != 200)
        self.say(
            f"{len(pool)} reference answers ({refused} of them refusals) in {self.seconds['references']:.0f} s")
        self.server = self.start_fleet() if self.plan.external else self.start_server()
        try:
            self.server.wait_for_all_engines()
            await self._warm_up(pool)
            before = await self._at_rest()
            await self._disturb(pool)
            await self._look_for_leaks(before)
            # Elsewhere, because relays live on this loop.
            await asyncio.to_thread(self._stop)
        except BaseException:
            self.say(self.server.output()[-8000:])
            raise
        finally:
            if self.ok:
                self.server.discard()
            else:
                self._keep_logs()
        return self.ok

    @property
    def ok(self):
        return not (self.failed or self.wrong or self.leaked)

    async def _warm_up(self, pool):
        """Threads and tables that come with first use are there before anything is counted."""
        chosen = pool[: min(len(pool), 60)]
        # So many that no engine is left out.
        structured = [body for body in pool if body.kind == "structured"] * (8 * self.plan.engines)
        chosen += structured[: 8 * self.plan.engines]

        async def ask(body, link):
            got = chaos_answers.answer(await self._undisturbed(body.path, body.data, link, self.server.port))
            if found := chaos_answers.difference(body.expected, got):
                self.wrong.append(f"before any fault: {body.kind} {body.key} {found}\n{body.data[:1500]!r}")

        await self._in_parallel(chosen, ask, clients=16)

    async def _at_rest(self):
        await asyncio.sleep(1)
        return self.server.holdings()

    async def _disturb(self, pool):
        plan = self.plan
        self.began = time.monotonic()
        requests = chaos_requests.requests(plan.seed, pool)
        kinds = plan.kinds
        if not chaos_faults.can_cut_links():
            self.say("links cannot be cut here: reaching into another process's sockets is not permitted")
            every = [*chaos_faults.MPS_KINDS, *chaos_faults.SIMULATED_KINDS, *chaos_faults.CUDA_KINDS, "gateway"]
            kinds = [kind for kind in kinds or every if kind not in chaos_faults.CUTTING]
        self.faults = chaos_faults.faults(
            plan.seed, plan.faults, plan.requests, plan.engines, plan.gap, plan.longest_freeze, kinds, self._kinds())
        injector = chaos_external.FleetInjector if plan.external else chaos_faults.Injector
        self.injector = injector(self.server, self.say)
        self.watch = chaos_watch.Watch(self.server)
        watch = asyncio.ensure_future(self.watch.run(1))
        keeper = asyncio.ensure_future(self.server.keep() if plan.external else asyncio.sleep(0))
        work = [asyncio.ensure_future(self._client(requests)) for _ in range(plan.clients)]
        work.append(asyncio.ensure_future(self._break()))
        try:
            await asyncio.gather(*work)
            await self.injector.settle()
            while self.aside:
                await asyncio.wait(self.aside)
        finally:
            tasks = [watch, keeper, *work, *self.aside]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.seconds["load"] = time.monotonic() - self.began

    def _kinds(self):
        """What there is to break, with its weights."""
        plan = self.plan
        if plan.external:
            return chaos_external.KINDS
        if plan.cuda:
            return chaos_faults.CUDA_MPS_KINDS if plan.mps else chaos_faults.CUDA_KINDS
        if plan.simulated:
            return chaos_faults.SIMULATED_KINDS
        return chaos_faults.MPS_KINDS if plan.mps else chaos_faults.KINDS

    @property
    def is_over_time(self):
        return time.monotonic() - self.began > self.plan.most_seconds

    async def _break(self):
        """Does the faults one after the other, each when as many requests were sent as it waits for."""
        last = time.monotonic()
        for fault in self.faults:
            while self.sent < fault.position and not self.is_over_time:
                self.progress.clear()
                await self.progress.wait()
            await asyncio.sleep(max(0, last + fault.gap - time.monotonic()))
            if self.is_over_time:
                break
            await self.injector.inject(fault)
            last = time.monotonic()
            self.fired += 1
            if self.fired % 20 == 0:
                self.say(
                    f"  {self.fired} faults, {self.sent} requests sent, {len(self.failed)} failed, "
                    f"{len(self.wrong)} wrong")
        self.is_broken = True

    async def _client(self, waiting):
        """Sends one request after the other, until there were enough and all faults have come."""
        kept = None
        for request in waiting:
            if self.is_broken and (request.number >= self.plan.requests or self.is_over_time):
                break
            self.sent = max(self.sent, request.number + 1)
            self.progress.set()
            if request.behaviour in _LEISURELY:
                task = asyncio.ensure_future(self._take_time(request))
                self.aside.add(task)
                task.add_done_callback(self.aside.discard)
                # So many at most beside those that want their answer at once.
                while len(self.aside) > self.plan.clients:
                    await asyncio.wait(self.aside, return_when=asyncio.FIRST_COMPLETED)
            else:
                kept = await self._try(request, kept)
        if kept:
            await kept.closed()

    async def _take_time(self, request):
        if connection := await self._try(request, None):
            await connection.closed()

    async def _try(self, request, kept):
        try:
            return await self._serve(request, kept)
        except Exception as error:
            self._note("FAILED", self.failed, request, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            return None

    def _note(self, title, findings, request, text):
        """Keeps what was found with all that helps to find its cause."""
        now = time.monotonic()
        last = [
            f"{fault.number} {fault.kind} {fault.victims} {fault.note} {now - fault.at:.2f} s ago"
            for fault in self.faults if fault.at
        ][-4:]
        body = f"\n    {request.body.path} {request.body.data[:1500].decode()}" if request.body else ""
        findings.append(
            f"request {request.number} ({request.behaviour}, {request.kind}): {text}{body}\n    last faults: {last}")
        self.say(f"{title} {findings[-1]}")

    def was_killed(self, connection, ended):
        """Whether the gateway died while a connection was open: that breaks it, and its client tries again."""
        return any(connection.opened <= dead and before <= ended for before, dead in self.injector.gateway_deaths)

    async def _serve(self, request, kept):
        """Sends a request until it is answered. Gives the connection for the next one, if it can be used again."""
        if request.behaviour == "flood" and self.plan.external:
            # Would be for its servers to refuse, which may take it.
            return kept
        if request.behaviour not in chaos_noise.BEHAVIOURS:
            return await self._ask(request, kept)
        await chaos_noise.BEHAVIOURS[request.behaviour](self, request)
        self._count(request)
        return kept

    def _count(self, request):
        key = (request.kind, request.behaviour)
        self.answered[key] = self.answered.get(key, 0) + 1

    async def _ask(self, request, kept):
        if request.fresh and kept:
            kept.close()
            kept = None
        for attempt in range(12):
            slow = request.behaviour == "slow"
            reused = kept is not None and kept.is_open
            connection = kept if reused else None
            reply = Reply(time.monotonic())
            try:
                if connection is None:
                    connection = await Connection(self.server.port, 4096 if slow else None).open()
                await asyncio.wait_for(self._exchange(request, connection, reply), PATIENCE_SECONDS)
            except (Broken, OSError) as error:
                kept = None
                if connection:
                    connection.close()
                killed = connection is not None and self.was_killed(connection, time.monotonic())
                # The death is noted when it is over, which may be a moment after the connection breaks.
                if connection is not None and not killed:
                    await asyncio.sleep(0.3)
                    killed = self.was_killed(connection, time.monotonic())
                if not killed:
                    raise Failed(f"the connection broke after {len(reply.events)} events: {error!r}") from error
                self._check_beginning(request, reply)
                self.retry("gateway died")
                continue
            except asyncio.TimeoutError:
                if connection:
                    connection.abort()
                raise Failed(f"no answer within {PATIENCE_SECONDS} s; {len(reply.events)} events came") from None
            finally:
                if reply.events and not slow:
                    self.streams.append([when for when, _, _ in reply.events])
            if request.behaviour == "cancel" and not reply.ended:
                self._check_beginning(request, reply)
                connection.abort()
                self._count(request)
                return None
            if reply.status == 429 and self.flooding > 0:
                self.busy += 1
                kept = connection
                await asyncio.sleep(min(5, float(reply.headers.get("retry-after", "1"))))
                continue
            self._check(request, reply)
            self._count(request)
            if self.plan.sabotage == "leak" and not self.held:
                self.held.append(connection)
                return None
            return connection if connection.is_open else None
        raise Failed("12 attempts, each broken by the death of a gateway or refused as too much")

    async def _exchange(self, request, connection, reply):
        pauses = self.random.sample(range(1, 30), 2)
        reads = itertools.count(1)

        async def pace():
            if next(reads) in pauses:
                await asyncio.sleep(request.amount * 2)

        def has_enough(reply):
            return len(reply.events) > request.amount

        await connection.ask(
            "POST", request.body.path, request.body.data, has_enough if request.behaviour == "cancel" else None, reply,
            pace if request.behaviour == "slow" else None)

    def _check(self, request, reply):
        if self.plan.sabotage == "lost" and request.number >= self.plan.requests // 2 and not self.failed:
            raise Failed("its answer was thrown away by --sabotage lost")
        try:
            if self.plan.external and reply.is_stream:
                return self._check_passed_on(request, reply)
            got = chaos_answers.answer(reply)
        except Malformed as error:
            return self._note("WRONG", self.wrong, request, str(error))
        if self.plan.sabotage == "wrong" and request.number >= self.plan.requests // 2 and not self.wrong:
            got = _corrupted(got)
        if found := chaos_answers.difference(request.body.expected, got):
            self._note("WRONG", self.wrong, request, found)

    def _check_passed_on(self, request, reply):
        """Of a stream whose server was broken: it may end with an error, or go on from its text."""
        broken = [
            fault.at for fault in self.faults
            if fault.at and fault.at <= reply.ended and fault.at + fault.amount + 5 >= reply.began]
        try:
            if not chaos_answers.difference(request.body.expected, chaos_answers.answer(reply)):
                return
            outcome = "went on otherwise"
        except Failed:
            outcome = "ended with an error"
            if not broken:
                raise
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if not broken:
            found = chaos_answers.difference(request.body.expected, chaos_answers.answer(reply))
            return self._note("WRONG", self.wrong, request, found)
        said = [event for event in reply.events if event[0] <= min(broken)]
        self._check_beginning(request, dataclasses.replace(reply, events=said))

    def _check_beginning(self, request, reply):
        if not reply.events:
            return
        part = chaos_answers.partial(reply)
        if not chaos_answers.is_beginning(part, request.body.expected):
            self._note("WRONG", self.wrong, request, f"what came before the end is not its beginning: {part}")

    def retry(self, reason):
        self.retried[reason] = self.retried.get(reason, 0) + 1

    # MARK: The end

    async def _look_for_leaks(self, before):
        began = time.monotonic()
        supervisor = self.server.process.pid
        try:
            await asyncio.to_thread(self.server.wait_for_all_engines, 120)
        except AssertionError as error:
            self.leaked.append(f"an engine: {error}")
        state, after = {}, {}
        while True:
            state = await self._in_flight()
            # What a process holds for a moment, to ask the MPS daemon something for example, is not kept.
            for name, now in self.server.holdings().items():
                after[name] = after[name].least(now) if name in after else now
            over = [
                f"{name} holds {after[name]}, {before[name]} before" for name in before
                if name in after and (
                    after[name].descriptors > before[name].descriptors or after[name].threads > before[name].threads)
            ]
            # Sooner than the server would close a connection that rests.
            if not any(state.values()) and not over or time.monotonic() - began > 20:
                break
            await asyncio.sleep(0.5)
        self.leaked += [f"{name} stays at {value}" for name, value in state.items() if value]
        self.leaked += over
        self.after, self.before = after, before
        if missing := set(before) - set(after):
            self.leaked.append(f"processes are missing: {missing}")
        if old := [pid for pid, times in self.watch.zombies_seen.items() if times > 2]:
            self.leaked.append(f"zombies: {old}")
        named = {name for name in self.server.children().values()}
        if self.plan.mps:
            # One daemon and one server, however often they were replaced.
            named.update(self.server.fake.daemon()[:1] + self.server.fake.servers()[:1])
        # One reads the GPU for the gateway.
        gateway = self.server.children().get("gateway")
        monitors = [p.pid for p in self.server.processes() if p.role == "monitor" and p.parent == gateway]
        named.update(monitors[:1])
        strays = [p for p in self.server.processes() if p.pid not in named and p.pid != supervisor]
        if strays:
            self.leaked.append(f"stray processes: {strays}")
        self._judge_memory()
        if self.leaked:
            # What helps to find the cause.
            self.say(f"files: {sorted(str(path) for path in self.server.runtime.rglob('*'))}")
            self.say(await chaos_watch.exposition(self.server.port))

    def _judge_memory(self):
        """Pages that are in use once stay in use, so memory grows to what the most requests at once need and no
        further. A tenth and 8 MiB leave room for fragmentation; a kibibyte kept of each of 10,000 requests is more."""
        self.memory = found = self.watch.memory_of_last_gateway()
        if found and found[2] > 60 and found[1] > found[0] * 1.1 + (8 << 20):
            self.leaked.append(f"the gateway's memory grew from {found[0] / 2**20:.1f} to {found[1] / 2**20:.1f} MiB")

    async def _in_flight(self):
        found = await chaos_watch.metrics(self.server.port)
        load = (await asyncio.to_thread(self.server.get, "/load")).json["server_load"]
        return {
            "/load": load, "unfinished sequences": found.total("tandem_gateway_unfinished_sequences"),
            "running sequences": sum(found.all("vllm:num_requests_running").values()),
            "waiting sequences": sum(found.all("vllm:num_requests_waiting").values()),
            "share of blocks in use": sum(found.all("vllm:kv_cache_usage_perc").values()),
        }

    def _stop(self):
        """The server stops in good order and leaves nothing."""
        server = self.server
        server.process.send_signal(signal.SIGINT)
        try:
            serving.wait_until(lambda: server.process.poll() is not None, 30, "the server does not end on SIGINT")
            if server.process.returncode != 0:
                self.leaked.append(f"the server ended with {server.process.returncode}")
            server.check_nothing_is_left()
            if self.plan.external:
                server.stop_in_good_order()
        except AssertionError as error:
            self.leaked.append(f"at the end: {error}")

    def _keep_logs(self):
        server = self.server
        serving._unfinished.discard(server)
        for process in server.processes():
            with contextlib.suppress(ProcessLookupError):
                server.kill(process)
        if server.process is not None:
            server.process.wait(10)
        self.say(f"logs are kept in {server.base}")


def _corrupted(answer):
    """The answer with its first text changed, for --sabotage wrong."""
    text = repr(answer)
    return {"status": answer["status"], "corrupted": text[: len(text) // 2]}
