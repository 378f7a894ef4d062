#!/usr/bin/env python3
"""A stand-in for NVIDIA's MPS programs, quirks included. Which one it is, its name tells.

    nvidia-cuda-mps-control -f|-d    the daemon        nvidia-cuda-mps-server     its server (needs no GPU)
    nvidia-cuda-mps-control          the v2 tool       fake-client [name]         a CUDA program

Wire protocol and texts are those of release 535, so the real programs understand it. The environment variable
FAKE_MPS holds words separated by commas:
    never-ready   the server starts and never reports           mute-server   it reports, then answers nobody
    fail-server   the server exits with status 1                pid-zero      clients are in another PID namespace
    new           knows get_server_status; writes its binary version to the log
    version3      speaks version 3 only (modules and verbs on the command line)
    deaf          terminate_client fails        no-room       there are as many clients as there may be
    kick          the first two sessions are cut off before their answers; kick-always: all
A file `fault` beside the pipe directory is a fatal GPU fault: all clients get its error code (the file's content, or
700), and the server refuses newcomers until all of them are gone.
"""
import os
import socket
import struct
import sys
import time

NAME = os.path.basename(sys.argv[0])
PIPE = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
LOGS = os.environ.get("CUDA_MPS_LOG_DIRECTORY", "/var/log/nvidia-mps")
QUIRKS = set(filter(None, os.environ.get("FAKE_MPS", "").split(",")))
SERVER, CLIENT, UI = 1, 2, 4
FAULT = os.path.join(os.path.dirname(PIPE.rstrip("/")), "fault")


def connect(kind):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    connection.connect(PIPE + "/control")
    if connection.recv(64) != b"OUTBHELL\0":
        raise OSError("no greeting")
    connection.send(b"OUTBCRED\0")
    connection.send(struct.pack("<I", kind))
    return connection


# The tool

def tool():
    try:
        connection = connect(UI)
    except OSError:
        sys.stderr.write("Cannot find MPS control daemon process\n")
        return 1
    status = 0
    try:
        if "version3" in QUIRKS:
            text = "\x1f".join(sys.argv[1:])
            lines = [text]
        else:
            lines = sys.stdin.read().split("\n")
            lines = lines[:-1] if lines and not lines[-1] else lines
        for line in lines:
            data = line.encode() + b"\n\0"
            connection.send(struct.pack("<Q", len(data)))
            connection.send(data)
        connection.send(struct.pack("<Q", 0))
    except OSError:
        sys.stderr.write("Cannot send command to MPS control daemon process\n")
        return 1
    while True:
        try:
            data = connection.recv(65536)
        except OSError:
            return status  # pushed out by another session: silence and success
        if not data:
            return status
        if data[:4] == struct.pack("<I", 1):
            data = data[4:] or connection.recv(64)
            return struct.unpack("<i", data[:4])[0]
        sys.stdout.write((data[4:] or connection.recv(65536)).rstrip(b"\0").decode() + "\n")
        sys.stdout.flush()


# The server

def server():
    if "fail-server" in QUIRKS:
        return 1
    if "never-ready" in QUIRKS:
        time.sleep(3600)
    connection = connect(SERVER)
    while True:
        data = connection.recv(4096)
        if not data:
            # The daemon is gone; a real server lives on as an orphan.
            time.sleep(3600)
        if data == b"quit":
            return 0
        if "mute-server" not in QUIRKS:
            connection.send(b"ok")


# A CUDA program

def client():
    try:
        connection = connect(CLIENT)
    except OSError:
        print("without MPS", flush=True)  # silently time-slices
        time.sleep(3600)
    while True:
        data = connection.recv(4096)
        if not data:
            print("805", flush=True)
            return 1
        print(data.decode(), flush=True)
        if data == b"807":
            return 1


# The daemon

class Daemon:
    def __init__(self):
        # Not above: the tool is started often and needs none of these.
        global contextlib, datetime, fcntl, select, selectors, subprocess
        import contextlib
        import datetime
        import fcntl
        import select
        import selectors
        import subprocess
        self.log = None
        self.servers = {}  # pid -> (process, connection or None)
        self.clients = {}  # connection -> [pid, command, attached]
        self.ui = None
        self.percentage, self.priority, self.limits = 100.0, 0, {}
        self.failed = False
        self.reported = False
        self.kicks = 2 if "kick" in QUIRKS else 1 << 30 if "kick-always" in QUIRKS else 0
        self.version = 13010 if "new" in QUIRKS else 12020

    def write(self, text, who="Control"):
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        os.write(self.log, f"[{now} {who} {os.getpid():5d}] {text}\n".encode())

    def run(self, foreground):
        if len(PIPE.encode()) > 87:
            return 1
        try:
            os.makedirs(PIPE, mode=0o777) if os.path.isdir(os.path.dirname(PIPE)) and not os.path.isdir(PIPE) else 0
            lock = os.open(PIPE + "/control_lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return 1
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("An instance of this daemon is already running")
            return 1
        if os.path.isdir(os.path.dirname(LOGS)):
            os.makedirs(LOGS, mode=0o700, exist_ok=True)
        if foreground:
            self.log = 1
        else:
            self.log = os.open(LOGS + "/control.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if os.fork():
                return 0
            os.setsid()
        self.listeners = []
        for name in ["control", "control_privileged"]:
            path = f"{PIPE}/{name}"
            if os.path.exists(path):
                os.unlink(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            listener.bind(path)
            listener.listen(128)
            self.listeners.append(listener)
        self.write(f"Starting control daemon using socket {PIPE}/control")
        if "new" in QUIRKS:
            self.write(f"CUDA MPS Control binary version: {self.version}")
        self.selector = selectors.DefaultSelector()
        for listener in self.listeners:
            self.selector.register(listener, selectors.EVENT_READ, self.accept)
        while True:
            for key, _ in self.selector.select(0.1):
                if key.fileobj.fileno() >= 0:
                    key.data(key.fileobj)
            self.reap()
            self.report_fault()

    def report_fault(self):
        if not os.path.exists(FAULT):
            self.reported = False
        elif not self.reported:
            self.reported = True
            code = open(FAULT).read().strip() or "700"
            for connection in self.clients:
                with contextlib.suppress(OSError):
                    connection.send(code.encode())
            if not self.clients:
                os.unlink(FAULT)

    def accept(self, listener):
        self.write("Accepting connection...")
        connection, _ = listener.accept()
        connection.settimeout(5)
        try:
            connection.send(b"OUTBHELL\0")
            data, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(12))
            pid, uid, _ = struct.unpack("3i", ancillary[0][2][:12])
            kind = struct.unpack("<I", connection.recv(4))[0]
        except (OSError, IndexError, struct.error):
            self.write("User did not send valid credentials")
            connection.close()
            return
        if kind == UI:
            self.write("NEW UI")
            if self.ui:
                self.drop_ui()
            self.ui = connection
            self.selector.register(connection, selectors.EVENT_READ, self.command)
        elif kind == SERVER:
            if pid in self.servers:
                self.servers[pid][1] = connection
                self.write(f"NEW SERVER {pid}: Ready")
        elif kind == CLIENT:
            self.new_client(connection, pid, uid)

    def new_client(self, connection, pid, uid):
        command = open(f"/proc/{pid}/cmdline").read().split("\0")
        entry = [pid, os.path.basename(command[1] if len(command) > 1 else "?"), False]
        if os.path.exists(FAULT):
            connection.send(b"807")
            connection.close()
            return
        if "no-room" in QUIRKS:
            connection.send(b"808")
            connection.close()
            return
        if not self.servers:
            for _ in range(6):
                self.start_server(uid)
                if self.wait_server():
                    break
        if not self.servers:
            connection.close()
            return
        self.write(f"NEW CLIENT {pid} from user {uid}: Server already exists")
        # While the server starts, or does not answer, the daemon does nothing else.
        process, link = next(iter(self.servers.values()))
        link.settimeout(None)
        link.send(b"client")
        if not link.recv(64):
            connection.close()
            return
        entry[2] = True
        self.clients[connection] = entry
        connection.send(b"attached")
        self.selector.register(connection, selectors.EVENT_READ, self.client_gone)

    def client_gone(self, connection):
        self.selector.unregister(connection)
        connection.close()
        self.clients.pop(connection, None)
        if not self.clients and os.path.exists(FAULT):
            os.unlink(FAULT)

    def start_server(self, uid):
        process = subprocess.Popen(["nvidia-cuda-mps-server"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.servers[process.pid] = [process, None]
        self.write(f"Starting new server {process.pid} for user {uid}")

    def wait_server(self):
        while True:
            self.reap()
            if not self.servers:
                return False
            if all(link for _, link in self.servers.values()):
                return True
            ready, _, _ = select.select(self.listeners, [], [], 0.02)
            for listener in ready:
                # Only the server's report is taken; commands wait.
                self.accept_server(listener)

    def accept_server(self, listener):
        connection, _ = listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("3i", credentials)[0]
        connection.send(b"OUTBHELL\0")
        if pid in self.servers:
            connection.recv(64), connection.recv(4)
            self.servers[pid][1] = connection
            self.write(f"NEW SERVER {pid}: Ready")
        else:
            self.waiting = getattr(self, "waiting", []) + [connection]

    def reap(self):
        for pid, (process, link) in list(self.servers.items()):
            status = process.poll()
            if status is None:
                continue
            self.failed |= status != 0
            # A server killed by a signal is said to have status 0.
            self.write(f"Server {pid} exited with status {max(0, status)}")
            del self.servers[pid]
            for connection in list(self.clients):
                self.client_gone(connection)

    def drop_ui(self):
        self.write("UI closed")
        self.selector.unregister(self.ui)
        self.ui.close()
        self.ui = None

    def say(self, text):
        self.write(text)
        self.ui.send(struct.pack("<I", 0) + text.encode() + b"\0")

    def command(self, connection):
        try:
            header = connection.recv(8)
            if not header:
                return self.drop_ui()
            size = struct.unpack("<Q", header)[0]
            if size == 0:
                connection.send(struct.pack("<Ii", 1, 0))
                return self.drop_ui()
            if self.kicks:
                self.kicks -= 1
                while size:
                    connection.recv(65536)
                    size = struct.unpack("<Q", connection.recv(8))[0]
                return self.drop_ui()
            text = connection.recv(65536)[:-2].decode()
            self.write("Cmd:" + text)
            if "version3" in QUIRKS:
                self.modules(text.split("\x1f"))
            else:
                self.line(text)
        except OSError:
            if self.ui is connection:
                self.drop_ui()

    def server_known(self, words):
        if len(words) < 2 or not words[1].isdigit() or int(words[1]) not in self.servers:
            self.say(f"Server {words[1] if len(words) > 1 else 0} not found")
            return False
        return True

    def shown(self, pid):
        return 0 if "pid-zero" in QUIRKS else pid

    def status(self):
        return "FAULT" if os.path.exists(FAULT) else "ACTIVE"

    def line(self, text):
        words = text.split()
        name = words[0] if words else ""
        if name == "get_server_list":
            for pid in self.servers:
                self.say(str(pid))
        elif name == "get_server_status" and "new" in QUIRKS:
            if self.server_known(words):
                self.say(self.status() if self.servers[int(words[1])][1] else "INITIALIZING")
        elif name == "start_server":
            if len(words) < 3:
                self.say("A user id (UID) is required to start a new server")
            elif int(words[2]) != os.getuid():
                self.say(f"Insufficient privileges for UID {words[2]}")
            elif not self.servers:
                self.start_server(int(words[2]))
        elif name == "get_client_list":
            if self.server_known(words):
                for pid, _, _ in self.clients.values():
                    self.say(str(self.shown(pid)))
        elif name == "ps":
            if not self.servers:
                self.say("Server not found")
            else:
                self.say("PID        ID         SERVER          DEVICE             NAMESPACE       COMMAND")
                server = next(iter(self.servers))
                for number, (pid, command, _) in enumerate(self.clients.values(), 1):
                    self.say(f"{self.shown(pid):<10} {number:<10} {server:<15} GPU-c4b5e3a2       4026531836      {command}")
        elif name == "terminate_client":
            if self.server_known(words):
                for connection, (pid, _, _) in list(self.clients.items()):
                    if self.shown(pid) == int(words[2]) and "deaf" not in QUIRKS:
                        connection.send(b"810")
                        self.client_gone(connection)
                        self.say("0")
                        return
                self.say("Failed to terminate client")
                self.say("1")
        elif name in ("get_default_active_thread_percentage", "set_default_active_thread_percentage"):
            if name[0] == "s":
                value = float(words[1])
                if 0 < value <= 100:
                    self.percentage = int(value * 10) / 10
                else:
                    self.write("active thread percentage should be between (0.0, 100.0]")
            self.say(f"{self.percentage:.1f}")
        elif name in ("get_default_client_priority", "set_default_client_priority"):
            if name[0] == "g":
                self.say(str(self.priority))
            elif words[1] in "01":
                self.priority = int(words[1])
            else:
                self.say("Invalid priority value - must be 0 or 1!")
        elif name == "set_default_device_pinned_mem_limit":
            if words[2][-1] in "GM":
                self.limits[words[1]] = words[2]
        elif name == "get_default_device_pinned_mem_limit":
            if words[1] in self.limits:
                self.say(self.limits[words[1]])
        elif name == "quit":
            self.quit()
        else:
            self.say(f'Unknown command "{name}"')

    def modules(self, words):
        if words == ["server", "list", "--format=csv"]:
            self.say("name,uid,pid,status,pipe-directory")
            for pid in self.servers:
                state = "Fault" if os.path.exists(FAULT) else "Ready"
                self.say(f"uid_0,{os.getuid()},{pid},{state},{PIPE}")
        elif words[:2] == ["server", "create"]:
            if not self.servers:
                self.start_server(os.getuid())
        elif words == ["client", "list", "--all", "--format=csv"]:
            self.say("pid,server,device,namespace,command")
            for pid, command, _ in self.clients.values():
                self.say(f"{self.shown(pid)},uid_0,GPU-c4b5e3a2,default,{command}")
        elif words[:1] == ["-q"]:
            self.quit()
        else:
            self.ui.send(struct.pack("<Ii", 1, 2))
            self.drop_ui()

    def quit(self):
        for pid, (process, link) in list(self.servers.items()):
            if link:
                link.send(b"quit")
            process.wait()  # blocks with a wedged server, whatever -t says
            self.failed |= process.returncode != 0
        code = 1 if self.failed else 0
        self.write(f"Exit with status {code}")
        self.ui.send(struct.pack("<Ii", 1, code))
        time.sleep(0.05)  # the answer comes before the end
        os._exit(code)


def main():
    if NAME == "nvidia-cuda-mps-server":
        return server()
    if NAME == "fake-client":
        return client()
    if sys.argv[1:2] in (["-f"], ["-d"]):
        return Daemon().run(sys.argv[1] == "-f")
    return tool()


if __name__ == "__main__":
    sys.exit(main())
