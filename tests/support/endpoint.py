"""A model behind HTTP: a real server of the standard library, which may fail and stall."""

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Predict = Callable[[dict[str, np.ndarray]], dict[str, Any]]


class Server:
    """Answers with what `predict` makes of the images by name.

    Attributes:
        url: where it is.
        images: how many images it has answered about.
        faults: (number of the request) -> "500", "nan", "size", "text", "stall", "drip" or
            nothing.
    """

    def __init__(self, predict: Predict, faults: Callable[[int], str | None]) -> None:
        self.predict, self.faults = predict, faults
        self.requests = self.images = 0
        self.lock = threading.Lock()
        self.headers: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize, disable_nagle_algorithm = -1, True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests += 1
                    number = outer.requests
                    outer.headers, outer.bodies = dict(self.headers), [body]
                fault = outer.faults(number)
                if fault == "stall":
                    time.sleep(1.5)
                status, text = outer.answer(body, fault)
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    for part in [text] if fault != "drip" else (bytes([c]) for c in text):
                        self.wfile.write(part)
                        if fault == "drip":
                            self.wfile.flush()
                            time.sleep(0.02)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/predict"

    def answer(self, body: dict[str, Any], fault: str | None) -> tuple[int, bytes]:
        if fault == "500":
            return 500, b"no"
        if fault == "text":
            return 200, b"<html>"
        images = {name: read(value) for name, value in body["images"].items()}
        with self.lock:
            self.images += len(next(iter(images.values())))
        scores = self.predict(images)
        if fault == "size":
            scores = {name: rows[:-1] for name, rows in scores.items()}
        text = json.dumps({"scores": scores})
        if fault == "nan":
            text = json.dumps(
                {
                    "scores": {
                        name: [[float("nan")] * len(r) for r in rows]
                        for name, rows in scores.items()
                    }
                }
            )
        return 200, text.encode()


def read(value: Any) -> np.ndarray:
    """Images (B, C, H, W) as they were sent."""
    if isinstance(value, list):
        return np.stack(
            [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))))[None] for each in value]
        )
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"])


@contextlib.contextmanager
def serving(
    predict: Predict, faults: Callable[[int], str | None] = lambda number: None
) -> Iterator[Server]:
    """A server while it lasts."""
    server = Server(predict, faults)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
