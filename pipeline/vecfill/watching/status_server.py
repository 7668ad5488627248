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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the pages; everything else with 4xx, or 501 for methods that HTTP does not know."""

    pages: ClassVar[dict[str, Page]] = {}
    server_version, sys_version = "vecfill", ""

    def do_GET(self) -> None:
        """Answers with a page."""
        path = self.path.partition("?")[0]
        if (page := self.pages.get(path)) is None:
            self._answer(HTTPStatus.NOT_FOUND, PLAIN, ("try " + ", ".join(self.pages) + "\n").encode())
        else:
            self._answer(*page())

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b"GET or HEAD\n", Allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are not logged: there is one every few seconds."""
