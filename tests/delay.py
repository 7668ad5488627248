"""A line of a given round trip: a TCP proxy in a process of its own that hands each piece on a while later.

A network far away, not a slow one: pieces follow one another at full speed, each half the
round trip late.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from psycopg import conninfo

from vecfill.postgres.database import Database

_PIECE = 1 << 18
_END_S = 5.0
Address = tuple[str, int] | str


@contextmanager
def delayed(database: Database, seconds: float) -> Iterator[Database]:
    """The same database behind a line with a round trip of ``seconds``, until the end of the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    address = _address(database)
    process = context.Process(target=_serve, args=(theirs, address, seconds / 2), name="delay", daemon=True)
    process.start()
    theirs.close()
    try:
        port = ours.recv()
        yield replace(database, conninfo=conninfo.make_conninfo(database.conninfo, **_through(database, port)))
    finally:
        ours.close()
        process.terminate()
        process.join(_END_S)


def _address(database: Database) -> Address:
    """Where the server is: a file for a Unix socket."""
    with closing(database.connect()) as connection:
        info = connection.info
        if info.host.startswith("/"):
            return str(Path(info.host) / f".s.PGSQL.{info.port}")
        return (info.hostaddr or info.host, info.port)


def _through(database: Database, port: int) -> dict[str, str | int]:
    """A host's name stays where there is one: its certificate is for that name."""
    host = str(conninfo.conninfo_to_dict(database.conninfo).get("host") or "")
    named = {} if host and not host.startswith(("/", "@")) else {"host": "127.0.0.1"}
    return {**named, "hostaddr": "127.0.0.1", "port": port}


def _serve(pipe: Pipe, address: Address, delay: float) -> None:
    """The other side: accepts until nobody holds the pipe's end any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, address, delay), daemon=True).start()
        pipe.send(server.getsockname()[1])
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()


def _accept(server: socket.socket, address: Address, delay: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = server.accept()
            far = _connected(address)
            for one, other in ((near, far), (far, near)):
                if one.family != socket.AF_UNIX:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _forward(one, other, delay)


def _connected(address: Address) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address)
    far = socket.socket(socket.AF_UNIX)
    far.connect(address)
    return far


def _received(source: socket.socket) -> bytes:
    """The next piece; nothing at the end, also where the other side just went away."""
    try:
        return source.recv(_PIECE)
    except OSError:
        return b""


def _forward(source: socket.socket, sink: socket.socket, delay: float) -> None:
    """Starts two threads: one notes when a piece came, the other hands it on when its time has come."""
    pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def take() -> None:
        while True:
            piece = _received(source)
            pieces.put((time.monotonic() + delay, piece))
            if not piece:
                return

    def give() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, piece = pieces.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(piece)

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()
