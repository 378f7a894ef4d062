"""A Hugging Face hub on loopback, as far as fetching models needs one, that can be told to fail.

    fake_hub.py ORG/NAME=DIRECTORY…      serves directories until it is interrupted

Two servers: the hub, and a store for large files, to which the hub redirects. What it answers follows what the package
huggingface_hub 2.4 asks and reads: `/api/models/REPOSITORY/revision/REVISION`, `/tree/REVISION` in pages with the header
`Link`, and `/REPOSITORY/resolve/REVISION/FILE` with `ETag`, `X-Repo-Commit`, `X-Linked-ETag` and `X-Linked-Size`.
"""
import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import sys
import threading
import urllib.parse

HOST = "127.0.0.1"


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclasses.dataclass
class Fault:
    """What happens to the next requests whose path holds `part`, instead of or in an answer."""

    part: str
    status: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    # The connection ends after so many bytes of the content.
    drop_after: int = -1
    # The content stops coming after so many bytes, and the connection stays.
    stall_after: int = -1
    # Ranges are not heeded.
    no_ranges: bool = False
    # The content has another first byte.
    corrupt: bool = False
    # Of HEAD, GET or both.
    methods: tuple = ("HEAD", "GET")
    times: int = 1


class Repository:
    """Files at one commit. Those that are at least `large` bytes long, or end like weights, are kept in the store."""

    def __init__(self, files, private=False, gated=False, gguf=None, page_size=1000, renamed_to=None):
        self.private, self.gated, self.gguf, self.page_size = private, gated, gguf, page_size
        self.renamed_to = renamed_to
        # Whether small files are behind a redirect, too.
        self.is_cached = False
        # Paths that are listed as they are and never served.
        self.extra_entries = []
        self.set(files)

    def set(self, files):
        self.files = dict(files)
        text = "".join(f"{path} {git_blob(content)}\n" for path, content in sorted(files.items()))
        self.commit = hashlib.sha1(text.encode()).hexdigest()

    def is_large(self, path):
        return path.endswith((".safetensors", ".gguf", ".bin")) or len(self.files[path]) >= 1 << 20

    def has_revision(self, revision):
        return revision in ("main", self.commit, "refs/pr/1", "v1.0")

    def entry(self, path):
        content = self.files[path]
        entry = {"type": "file", "oid": git_blob(content), "size": len(content), "path": path}
        if self.is_large(path):
            digest = hashlib.sha256(content).hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
            entry["oid"] = git_blob(pointer)
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": len(pointer)}
        return entry

    def tree(self):
        folders = sorted({str(parent) for path in self.files for parent in pathlib.PurePosixPath(path).parents} - {"."})
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in folders]
        return entries + [self.entry(path) for path in sorted(self.files)] + self.extra_entries


class FakeHub:
    TOKEN = "hf_right"

    def __init__(self):
        self.repositories = {}
        self.faults = []
        # (server, method, path, headers) of every request.
        self.requests = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.store = self._server("store")
        self.hub = self._server("hub")
        self.endpoint = f"http://{HOST}:{self.hub.server_address[1]}"
        self.store_address = f"http://{HOST}:{self.store.server_address[1]}"

    def _server(self, name):
        hub = self

        class Handler(HubHandler):
            pass

        Handler.hub, Handler.server_name_here = hub, name
        server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        server.daemon_threads = True
        # Clients that break off are what is tested.
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self):
        self.closing.set()
        for server in (self.hub, self.store):
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fail(self, part, **how):
        fault = Fault(part, **how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.part in path and method in fault.methods and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def asked(self, part, method=None, server=None):
        """Requests whose path holds `part`."""
        with self.lock:
            return [
                request for request in self.requests
                if part in request[2] and method in (None, request[1]) and server in (None, request[0])]

    def forget(self):
        with self.lock:
            self.requests.clear()


class HubHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    server_name_here = ""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.hub
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        with hub.lock:
            hub.requests.append((self.server_name_here, self.command, self.path, dict(self.headers)))
        self.fault = hub.take_fault(self.command, path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.fault and self.fault.status:
                return self.reply(self.fault.status, b"told to fail", self.fault.headers)
            if self.server_name_here == "store":
                return self.content_of_store(path)
            if path.startswith("/api/resolve-cache/models/"):
                commit = self.commit_in(path)
                name, _, rest = path.removeprefix("/api/resolve-cache/models/").rpartition(f"/{commit}/")
                content = hub.repositories[name].files[rest]
                return self.content(content, {"X-Repo-Commit": commit, "ETag": f'"{git_blob(content)}"'})
            if path.startswith("/api/models/"):
                return self.api(path.removeprefix("/api/models/"), urllib.parse.parse_qs(query), query)
            return self.resolve(path.lstrip("/"))

    def commit_in(self, path):
        return next(part for part in path.split("/") if len(part) == 40)

    # What the hub lets through

    def repository(self, name):
        """The repository, or None after an answer that says why not: to a stranger, a private one does not exist."""
        repository = self.hub.repositories.get(name)
        sent = self.headers.get("Authorization")
        if sent is not None and sent != f"Bearer {FakeHub.TOKEN}":
            message = "Invalid credentials in Authorization header"
            return self.error(401, None, message)
        if repository is None or (repository.private and sent is None):
            if sent is None:
                return self.error(401, "RepoNotFound", "Invalid username or password.")
            return self.error(404, "RepoNotFound", "Repository not found")
        return repository

    def may_read(self, name, repository):
        if not repository.gated or (self.headers.get("Authorization") and repository.gated != "refuse"):
            return True
        status = 403 if self.headers.get("Authorization") else 401
        self.error(status, "GatedRepo", f"Access to model {name} is restricted.")
        return False

    def api(self, rest, values, query):
        for kind in ("revision", "tree"):
            name, found, revision = rest.partition(f"/{kind}/")
            if not found:
                continue
            repository = self.repository(name)
            if repository is None:
                return
            if repository.renamed_to:
                target = f"/api/models/{repository.renamed_to}/{kind}/{urllib.parse.quote(revision, safe='')}"
                return self.reply(307, b"", {"Location": target + (f"?{query}" if query else "")})
            if not repository.has_revision(revision):
                return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return self.info(name, repository) if kind == "revision" else self.tree(name, revision, repository, values)
        repository = self.repository(rest)
        if repository is not None:
            self.info(rest, repository)

    def info(self, name, repository):
        information = {
            "_id": "0" * 24, "id": name, "modelId": name, "sha": repository.commit, "private": repository.private,
            "gated": "manual" if repository.gated else False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(repository.files)],
        }
        if repository.gguf:
            information["gguf"] = repository.gguf
        self.json(information)

    def tree(self, name, revision, repository, values):
        entries = repository.tree()
        start = int(values.get("cursor", ["0"])[0])
        stop = start + repository.page_size
        headers = {}
        if stop < len(entries):
            address = f"{self.hub.endpoint}/api/models/{name}/tree/{revision}?recursive=true&cursor={stop}"
            headers["Link"] = f'<{address}>; rel="next"'
        self.json(entries[start:stop], headers)

    def resolve(self, rest):
        name, found, tail = rest.partition("/resolve/")
        repository = self.repository(name) if found else self.error(404, None, "Not here")
        if repository is None:
            return
        if repository.renamed_to:
            return self.reply(307, b"", {"Location": f"/{repository.renamed_to}/resolve/{urllib.parse.quote(tail)}"})
        revision, _, path = tail.partition("/")
        if not repository.has_revision(revision):
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path not in repository.files:
            return self.error(404, "EntryNotFound", "Entry not found")
        if not self.may_read(name, repository):
            return
        content = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit}
        if not repository.is_large(path):
            if repository.is_cached:
                place = f"/api/resolve-cache/models/{name}/{repository.commit}/{urllib.parse.quote(path)}"
                place += f'?etag="{git_blob(content)}"'
                linked = {"X-Linked-ETag": f'"{git_blob(content)}"', "X-Linked-Size": str(len(content))}
                return self.reply(307, b"", {**headers, **linked, "Location": place})
            return self.content(content, {**headers, "ETag": f'"{git_blob(content)}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers.update({
            "X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)),
            "Location": f"{self.hub.store_address}/{digest}?signature=good&file={urllib.parse.quote(path)}",
        })
        self.reply(302, b"Found. Redirecting", headers)

    def content_of_store(self, path):
        digest = path.lstrip("/")
        for repository in self.hub.repositories.values():
            for content in repository.files.values():
                if hashlib.sha256(content).hexdigest() == digest:
                    return self.content(content, {"ETag": f'"{digest}"'})
        self.reply(403, b"AccessDenied")

    # Answers

    def error(self, status, code, message):
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        self.json({"error": message}, headers, status)

    def json(self, value, headers=None, status=200):
        self.reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def content(self, content, headers):
        fault = self.fault or Fault("")
        if fault.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        wanted = self.headers.get("Range")
        if not wanted or fault.no_ranges:
            return self.reply(200, content, {**headers, "Accept-Ranges": "bytes", **fault.headers})
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        first, last = int(first), int(last) if last else len(content) - 1
        if first >= len(content):
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self.reply(206, content[first : last + 1], headers)

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self.fault or Fault("")
        if fault.drop_after >= 0:
            self.wfile.write(body[: fault.drop_after])
            self.close_connection = True
        elif fault.stall_after >= 0:
            self.wfile.write(body[: fault.stall_after])
            self.wfile.flush()
            self.hub.closing.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(body)


def main():
    hub = FakeHub()
    for argument in sys.argv[1:]:
        name, _, directory = argument.partition("=")
        root = pathlib.Path(directory)
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        hub.repositories[name] = Repository(files)
    print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    hub.close()


if __name__ == "__main__":
    main()
