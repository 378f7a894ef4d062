"""What is measured: Tandem's gateway, others' proxies, and nothing at all, before the same mock engines."""
import http.client
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import time

from comparison import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.error warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; proxy_http_version 1.1; keepalive_requests 1000000; keepalive_timeout 75;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engines {{ {servers} keepalive 1024; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; tcp_nodelay on;
    location / {{ proxy_pass http://engines; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 300; client_max_body_size 32m; }} }}
}}
"""
HAPROXY = """global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option http-no-delay
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend engines
backend engines
  balance roundrobin
{servers}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Proxy:
    """One of those that are measured, running on a core of its own."""

    over_link = False
    model = "mock"

    def __init__(self, name, port, group=None):
        self.name, self.port, self.group = name, port, group

    @property
    def processes(self):
        """All processes of its session."""
        if not self.group:
            return []
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self.group.process.pid:
                    found.append(int(entry.name))
            except (ProcessLookupError, PermissionError):
                pass
        return found

    def wait(self, limit=60):
        """Waits until a request reaches an engine."""
        body = b'{"model":"%s","messages":[{"role":"user","content":"hi"}],"max_tokens":2}' % self.model.encode()
        began, last = time.monotonic(), "no answer"
        while time.monotonic() - began < limit:
            if self.group and not self.group.running():
                raise RuntimeError(f"{self.name} ended: {self.group.tail()}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request(
                    "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                if answer.status == 200:
                    answer.read()
                    return
                last = f"{answer.status} {answer.read()[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
            finally:
                connection.close()
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not serve after {limit} s ({last}): {self.group.tail()}")

    def end(self):
        if self.group:
            self.group.end()


def pinned(core, command):
    return (["taskset", "-c", str(core)] if core is not None else []) + [str(part) for part in command]


def nginx(folder, engines, core):
    if not shutil.which("nginx"):
        raise FileNotFoundError("nginx is not installed (apt-get install nginx)")
    port = free_port()
    configuration = pathlib.Path(folder) / "nginx.conf"
    # Without `user`: as root its workers would be nobody's, who may not enter the folder.
    servers = " ".join(f"server 127.0.0.1:{engine};" for engine in engines)
    user = "user root; " if os.geteuid() == 0 else ""
    configuration.write_text(user + NGINX.format(folder=folder, port=port, servers=servers))
    command = ["nginx", "-p", folder, "-e", f"{folder}/nginx.error", "-c", configuration]
    return Proxy("nginx", port, machine.Group(pinned(core, command), f"{folder}/nginx.log"))


def haproxy(folder, engines, core):
    if not shutil.which("haproxy"):
        raise FileNotFoundError("haproxy is not installed (apt-get install haproxy)")
    port = free_port()
    configuration = pathlib.Path(folder) / "haproxy.cfg"
    servers = "".join(f"  server e{index} 127.0.0.1:{engine}\n" for index, engine in enumerate(engines))
    configuration.write_text(HAPROXY.format(port=port, servers=servers))
    return Proxy(
        "HAProxy", port, machine.Group(pinned(core, ["haproxy", "-db", "-f", configuration]), f"{folder}/haproxy.log"))


def rust_router(name, folder, engines, core, binary):
    """`sglang-router` or `vllm-router`, which have the same options."""
    if not binary:
        raise FileNotFoundError(f"no {name} is given (Benchmarks/gateway/install-peers)")
    port = free_port()
    arguments = [
        "--host", "127.0.0.1", "--port", port, "--policy", "round_robin", "--prometheus-port", free_port(),
        "--log-level", "error", "--worker-urls", *[f"http://127.0.0.1:{engine}" for engine in engines],
    ]
    command = [binary, "launch", *arguments] if name == "sglang-router" else [binary, *arguments]
    return Proxy(name, port, machine.Group(pinned(core, command), f"{folder}/{name}.log"))


class LinkGateway(Proxy):
    """`tandem gateway` before engine links; this script is its supervisor."""

    over_link = True

    def __init__(self, name, folder, addresses, core, binary, model, threads=1):
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        ours, theirs = socket.socketpair()
        served = (
            '{"model":"%s","load-format":"auto","ablation":"full","names":["mock"],"max-model-len":8192,"engines":%d}'
            % (model, len(addresses)))
        command = [
            binary, "gateway", "--served-model", served, "--listen-fd", listener.fileno(), "--status-fd",
            theirs.fileno(), "--threads", threads, "--log-level", "warning",
        ]
        group = machine.Group(
            pinned(core, command), f"{folder}/{name.replace(' ', '-')}.log",
            pass_fds=(listener.fileno(), theirs.fileno()))
        super().__init__(name, listener.getsockname()[1], group)
        theirs.close()
        listener.close()
        self.status = ours
        ours.sendall(self.roster(addresses))

    @staticmethod
    def roster(addresses):
        """The frame that tells a gateway its engines; see `LinkCodec` and `MessageFields`."""

        def text(value):
            return struct.pack("<I", len(value)) + value.encode()

        payload = struct.pack("<BQI", 11, 1, len(addresses))
        for index, address in enumerate(addresses):
            payload += struct.pack("<I", index) + text(address) + struct.pack("<Bii", 2, 1000 + index, 0) + text("")
        return struct.pack("<I", len(payload)) + payload

    def end(self):
        super().end()
        self.status.close()


def http_gateway(name, folder, engines, core, binary):
    """`tandem gateway` before HTTP engines."""
    usage = subprocess.run([str(binary), "gateway", "--help-hidden"], capture_output=True, text=True).stdout
    if "--endpoints" not in usage:
        raise FileNotFoundError(f"{binary} has no `gateway --endpoints`")
    port = free_port()
    command = [
        binary, "gateway", "--port", port, "--threads", 1, "--log-level", "warning", "--endpoints",
        ",".join(f"http://127.0.0.1:{engine}" for engine in engines),
    ]
    return Proxy(name, port, machine.Group(pinned(core, command), f"{folder}/{name.replace(' ', '-')}.log"))
