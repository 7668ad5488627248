"""A real embedding API on loopback, whose every vector is its text's: a misplaced one is seen. Faults as scripted."""

from __future__ import annotations

import base64
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from vecfill.encode.hash_encoder import HashEncoder

DIM = 8
KEY = "sk-test-0f1e2d3c4b5a69788796a5b4c3d2e1f0"

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Of localhost and 127.0.0.1 until 2126, with its key: for tests alone."""

Act = Callable[["Request"], None]


def tokens_of(texts: list[str]) -> int:
    """What this API counts: words, and one more a text."""
    return sum(len(text.split()) + 1 for text in texts)


@dataclass
class Seen:
    """What the server has seen: the account that ours is compared with."""

    requests: int = 0
    tokens: int = 0
    texts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    refused: int = 0
    times: list[float] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Request:
    """One request, with the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, number: int, body: dict[str, Any], dim: int, seen: Seen):
        self.handler, self.number, self.body, self.dim, self.seen = handler, number, body, dim, seen
        self.texts: list[str] = body["input"]

    def vectors(self, dim: int | None = None) -> list[np.ndarray]:
        return list(HashEncoder(dim or self.body.get("dimensions") or self.dim).encode(self.texts).vectors)

    def items(self, vectors: list[np.ndarray], *, lists: bool = False) -> list[dict[str, Any]]:
        lists = lists or self.body.get("encoding_format") != "base64"
        return [
            {
                "object": "embedding",
                "index": index,
                "embedding": [float(x) for x in vector]
                if lists
                else base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            }
            for index, vector in enumerate(vectors)
        ]

    def answer(self, items: list[dict[str, Any]] | None = None, *, usage: bool = True, **headers: str) -> None:
        """Answers as it should be, or with these items."""
        items = self.items(self.vectors()) if items is None else items
        tokens = tokens_of(self.texts)
        with self.seen.lock:
            self.seen.tokens += tokens
        counted = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if usage else {}
        self.send(200, {"object": "list", "model": "test", "data": items, **counted}, **headers)

    def error(self, status: int, message: str = "no", *, code: str | None = None, param: str | None = None, **headers):
        body = {"error": {"message": message, "type": "e", "code": code, "param": param}}
        self.seen.refused += 1
        self.send(status, body, **headers)

    def send(self, status: int, body: Any, *, cut: int | None = None, **headers: str) -> None:
        """Sends a body; with ``cut`` the connection closes after so many bytes of it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        with self.seen.lock:  # before the client has the answer, and may ask for the account
            self.seen.bytes_out += len(data)
        self.handler.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.handler.wfile.flush()
            self.handler.close_connection = True
            self.handler.connection.shutdown(socket.SHUT_RDWR)


def right(request: Request) -> None:
    """An answer without fault."""
    request.answer()


def reversed_order(request: Request) -> None:
    request.answer(request.items(request.vectors())[::-1])


def closed_mid_body(request: Request) -> None:
    tokens = tokens_of(request.texts)
    with request.seen.lock:
        request.seen.tokens += tokens
    body = {"data": request.items(request.vectors()), "usage": {"total_tokens": tokens}}
    request.send(200, body, cut=40)


def too_few(request: Request) -> None:
    request.answer(request.items(request.vectors())[:-1])


def twice_the_same(request: Request) -> None:
    items = request.items(request.vectors())
    items[-1]["index"] = 0
    request.answer(items)


def index_beyond(request: Request) -> None:
    items = request.items(request.vectors())
    items[-1]["index"] = len(items)
    request.answer(items)


def another_dimension(request: Request) -> None:
    request.answer(request.items(request.vectors(request.dim + 1)))


def mixed_dimensions(request: Request) -> None:
    vectors = request.vectors()
    request.answer(request.items([*vectors[:-1], vectors[-1][:-1]]))


def no_base64(request: Request) -> None:
    items = request.items(request.vectors())
    items[0]["embedding"] = "not base64!"
    request.answer(items)


def half_a_number(request: Request) -> None:
    items = request.items(request.vectors())
    items[0]["embedding"] = base64.b64encode(b"12345").decode()
    request.answer(items)


def nan(request: Request) -> None:
    vectors = request.vectors()
    vectors[0] = np.full(request.dim, math.nan, np.float32)
    request.answer(request.items(vectors))


def zeros(request: Request) -> None:
    request.answer(request.items([0 * vector for vector in request.vectors()]))


def lists(request: Request) -> None:
    """A server that ignores that it was asked for base64."""
    request.answer(request.items(request.vectors(), lists=True))


def nulls(request: Request) -> None:
    items = request.items(request.vectors(), lists=True)
    items[0]["embedding"][0] = None
    request.answer(items)


def html(request: Request) -> None:
    request.send(200, b"<html>a proxy's login page</html>")


def an_error_with_200(request: Request) -> None:
    request.send(200, {"error": {"message": "oops"}})


def status(number: int, **headers: str) -> Act:
    return lambda request: request.error(number, **headers)


def stalls(seconds: float) -> Act:
    def act(request: Request) -> None:
        time.sleep(seconds)
        request.answer()

    return act


def first(n: int, act: Act, then: Act = right) -> Act:
    """``act`` for the first ``n`` requests."""
    return lambda request: (act if request.number < n else then)(request)


def at_first(*faults: Act, then: Act = right) -> Act:
    """Each set of texts meets one of the faults, in turn, when it is first sent, and none when it is sent again."""
    known: set[str] = set()
    lock = threading.Lock()

    def act(request: Request) -> None:
        texts = "\n".join(request.texts)
        with lock:
            fault = None if texts in known else faults[len(known) % len(faults)]
            known.add(texts)
        (fault or then)(request)

    return act


class ApiOptions:
    """The server and what it has seen. ``act`` answers each request, and may be replaced while it runs."""

    def __init__(self, act: Act, dim: int, key: str | None) -> None:
        self.act, self.seen = act, Seen()
        lock = self.seen.lock
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(data)
                seen = api.seen
                with lock:
                    number = seen.requests
                    seen.requests += 1
                    seen.bytes_in += len(data)
                    seen.under_way += 1
                    seen.most_under_way = max(seen.most_under_way, seen.under_way)
                    seen.texts += body["input"]
                    seen.bodies.append(body)
                    seen.keys.add(self.headers.get("Authorization", ""))
                    seen.paths.append(self.path)
                    seen.times.append(time.monotonic())
                request = Request(self, number, body, dim, seen)
                try:
                    if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
                        request.error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
                    elif self.path.partition("?")[0] != "/v1/embeddings":
                        request.error(404, "no such path")
                    else:
                        api.act(request)
                except OSError:
                    self.close_connection = True
                finally:
                    with lock:
                        seen.under_way -= 1

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that goes away in the middle, as ours does when it has seen enough."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def encrypt(self) -> None:
        """From now on it speaks TLS, with a certificate that nobody but ``CERTIFICATE`` vouches for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(act: Act = right, *, dim: int = DIM, key: str | None = None) -> Iterator[ApiOptions]:
    api = ApiOptions(act, dim, key)
    try:
        yield api
    finally:
        api.close()
