"""Metrics and probes over HTTP: ``/metrics``, ``/healthz`` and ``/readyz``, from memory alone."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from socketserver import StreamRequestHandler
from typing import Any, ClassVar

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from vecfill.background import in_background
from vecfill.errors import ConfigError
from vecfill.watching.health import Health
from vecfill.watching.metrics import registry_of

log = logging.getLogger(__name__)

PLAIN = "text/plain; charset=utf-8"

Page = Callable[[], tuple[HTTPStatus, str, bytes]]

SLOW_S = 10.0
"""Seconds after which the connection of a client is closed, however slowly it sends or reads."""

MOST_CLIENTS = 32
"""Connections at a time, each with a thread; further ones are closed at once."""

FRESH_S = 1.0
"""Seconds for which the text of the metrics serves all who ask: it takes longest to make."""

LONGEST_LINE, MOST_HEADERS = 1 << 16, 100
"""Bounds of a request: bytes of a line, and lines."""

STOP_LOOK_S = 0.1
"""How often the server looks whether it is to end."""


@contextmanager
def serving(health: Health, host: str, port: int) -> Iterator[int]:
    """Serves until the end of the body; yields the port.

    Raises:
        ConfigError: the address cannot be used, such as a port that is taken.
    """
    registry = registry_of(health)

    def probe(troubles: list[str]) -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        return status, PLAIN, ("\n".join(troubles or ["ok"]) + "\n").encode()

    text = _Kept(lambda: generate_latest(registry))
    pages: dict[str, Page] = {
        "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, text()),
        "/healthz": lambda: probe([f"{target}: its loop is stuck" for target in health.stuck]),
        "/readyz": lambda: probe([f"{target}: not ready" for target in health.waiting]),
    }
    kind = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        server = kind((host, port), type("Handler", (_Handler,), {"pages": pages}))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--metrics {port} on --metrics-host {host}: {reason}: choose another port or address, or 0 for a free port"
        ) from error
    at = server.server_address[1]
    log.info("metrics at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, at, extra={"port": at})
    try:
        with in_background("metrics", lambda: server.serve_forever(STOP_LOOK_S), server.shutdown):
            yield at
    finally:
        server.server_close()


class _Kept:
    """A text that is made anew after ``FRESH_S`` at the earliest."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._text, self._made_at = b"", -math.inf

    def __call__(self) -> bytes:
        with self._lock:
            if time.monotonic() - self._made_at > FRESH_S:
                self._text, self._made_at = self._make(), time.monotonic()
            return self._text


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection must not hold up the end

    def __init__(self, *given: Any) -> None:
        self._clients: dict[socket.socket, float] = {}
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread of its own; closes a connection that is one too many."""
        if len(self._clients) >= MOST_CLIENTS:
            self.shutdown_request(request)
            return
        self._clients[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets the client."""
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends connections that take too long."""
        self._end_those_before(time.monotonic() - SLOW_S)

    def server_close(self) -> None:
        """Ends the others too."""
        super().server_close()
        self._end_those_before(math.inf)

    def _end_those_before(self, late: float) -> None:
        """Shuts connections down: the thread that reads one finds its end."""
        for request in [request for request, since in list(self._clients.items()) if since < late]:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no trouble of ours."""
        log.debug("a request to the metrics failed", exc_info=True)


class _Handler(StreamRequestHandler):
    """Answers GET and HEAD of the pages; everything else with 4xx, or 501 for methods that HTTP does not know.

    ``http.server`` takes nearly twice the time, most of it for headers that nothing here needs. A connection is for one
    request, and requests are not logged: there is one every few seconds.
    """

    pages: ClassVar[dict[str, Page]] = {}

    def handle(self) -> None:
        """Reads a request and answers it; a client that leaves before its end gets no answer."""
        first = self.rfile.readline(LONGEST_LINE + 1)
        if len(first) > LONGEST_LINE:
            self._answer(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        for _ in range(MOST_HEADERS):
            line = self.rfile.readline(LONGEST_LINE + 1)
            if not line.endswith(b"\n") or line in (b"\r\n", b"\n"):
                break
        if line in (b"\r\n", b"\n"):
            self._answer_to(first.decode("latin-1").split())
        elif line:
            self._answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _answer_to(self, words: list[str]) -> None:
        method, path, version, *more = [*words, "", "", ""]
        if not version.startswith("HTTP/1.") or any(more):
            self._answer(HTTPStatus.BAD_REQUEST)
        elif method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b"GET or HEAD\n", "Allow: GET, HEAD\r\n")
        elif method not in ("GET", "HEAD"):
            self._answer(HTTPStatus.NOT_IMPLEMENTED)
        elif (page := self.pages.get(path.partition("?")[0])) is None:
            self._answer(HTTPStatus.NOT_FOUND, PLAIN, ("try " + ", ".join(self.pages) + "\n").encode())
        else:
            self._answer(*page(), whole=method == "GET")

    def _answer(
        self, status: HTTPStatus, kind: str = PLAIN, body: bytes | None = None, more: str = "", *, whole: bool = True
    ) -> None:
        body = f"{status.phrase}\n".encode() if body is None else body
        head = (
            f"HTTP/1.0 {status.value} {status.phrase}\r\nServer: vecfill\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
        )
        self.wfile.write(head.encode() + (body if whole else b""))
