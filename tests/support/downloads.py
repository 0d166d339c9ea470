"""Downloads without a network."""

import contextlib
import http.server
import resource
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def disk_of(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond n bytes: a write then fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` while `open`; cuts connections after `cuts` bytes (one entry a request), or
    answers with `status`.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.cuts, self.status, self.ranges = body, list[int](), 200, True
        self.requests: list[str | None] = []
        self.open = threading.Event()
        self.open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.npz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(server.body)
        server.open.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(server.body[start : start + end])
        self.close_connection = True

    def log_message(self, *given: object) -> None:
        pass


@contextlib.contextmanager
def serving(body: bytes) -> Iterator[Server]:
    """A server on loopback, while inside."""
    with Server(body) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.open.set()
            running.shutdown()
            thread.join()
