#!/usr/bin/env python3
"""What TLS costs a gateway: CPU a streamed token, with TLS and without, both at the same time.

    Benchmarks/gateway/tls.py [--binary PATH] [--streams N] [--seconds S] [--rounds R]

PATH is a program with TLS (default .build/release/tandem). For each round two gateways pass N streams each, of one
token every 20 ms, from one server in this process to clients in this process; what counts is the gateways' own processor
time, as the kernel has it, so only the ratio means anything. Certificates are made by openssl (ECDSA P-256). Prints a
line a round, and the median of the ratios; handshakes are measured apart, each on a connection of its own.
"""
import argparse
import asyncio
import json
import os
import pathlib
import ssl
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/Integration"))

import serving
from certificates import Authority

PERIOD = 0.02
EVENT = b'data: {"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" word","finish_reason":null}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


async def serve(reader, writer):
    """A server of one model that says a word every so often until it is left."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"POST"):
                body = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                continue
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(CHUNK)
                await asyncio.sleep(PERIOD)
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


class Gateway:
    def __init__(self, binary, endpoint, context, *options):
        self.context, self.port, self.tokens = context, serving.free_port(), 0
        self.process = subprocess.Popen(
            [binary, "gateway", "--port", str(self.port), "--endpoints", endpoint, *map(str, options)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connect(self):
        name = "localhost" if self.context else None
        return asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, server_hostname=name)

    async def ready(self):
        for _ in range(500):
            try:
                reader, writer = await self.connect()
                writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
                if b" 200 " in line:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)
        raise SystemExit("a gateway is not ready: does the program have TLS?")

    def cpu(self):
        """Seconds of all its threads."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    async def stream(self):
        reader, writer = await self.connect()
        body = json.dumps({"model": "m", "prompt": "x", "max_tokens": 1_000_000, "stream": True}).encode()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body) + body)
        try:
            while data := await reader.read(65536):
                self.tokens += data.count(b"data: ")
        finally:
            writer.close()

    async def handshakes(self, count):
        """Connections with one small request each; CPU seconds of one."""
        before = self.cpu()
        for _ in range(count):
            reader, writer = await self.connect()
            writer.write(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while await reader.read(65536):
                pass
            writer.close()
        return (self.cpu() - before) / count


async def measure(options, authority):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    certificate, key = authority.local()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    gateways = [
        Gateway(options.binary, endpoint, None),
        Gateway(options.binary, endpoint, context, "--tls-certificate", certificate, "--tls-key", key)]
    try:
        for gateway in gateways:
            await gateway.ready()
        ratios = []
        for number in range(options.rounds):
            tasks = [asyncio.create_task(gateway.stream()) for _ in range(options.streams) for gateway in gateways]
            await asyncio.sleep(1)
            began = [(gateway.cpu(), gateway.tokens) for gateway in gateways]
            await asyncio.sleep(options.seconds)
            plain, secure = (
                (gateway.cpu() - cpu) / (gateway.tokens - tokens) * 1e6
                for gateway, (cpu, tokens) in zip(gateways, began))
            rate = (gateways[1].tokens - began[1][1]) / options.seconds
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            ratios.append(secure / plain)
            print(f"round {number + 1}: {plain:.2f} µs a token without TLS, {secure:.2f} with ({rate:.0f} tokens/s each): {ratios[-1]:.2f}")
        print(f"ratio: {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
        costs = [[await gateway.handshakes(100) * 1e6 for gateway in gateways] for _ in range(options.rounds)]
        plain, secure = (statistics.median(column) for column in zip(*costs))
        print(f"a connection with one request: {plain:.0f} µs without TLS, {secure:.0f} with")
    finally:
        for gateway in gateways:
            gateway.process.kill()
            gateway.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/tandem"))
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    authority = Authority()
    try:
        asyncio.run(measure(parser.parse_args(), authority))
    finally:
        authority.remove()


if __name__ == "__main__":
    main()
