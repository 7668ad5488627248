"""A run on a cluster that somebody else started: two nodes, as ``ray start`` makes them, that ask for a token."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from tests.tables import assert_every_vector_is_its_texts, make_docs, wait_until

pytestmark = pytest.mark.slow

RAY = str(Path(sys.executable).with_name("ray"))
NODE = (
    "--num-cpus=2",
    "--block",
    "--disable-usage-stats",
    "--node-ip-address=127.0.0.1",
    "--object-store-memory=200000000",
)


@contextmanager
def node(*options: str, environ: Mapping[str, str]) -> Iterator[None]:
    """A node, killed at the end with all its processes: ``ray stop`` would end every Ray on this machine."""
    process = subprocess.Popen(
        [RAY, "start", *options, *NODE], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        for part in (*psutil.Process(process.pid).children(recursive=True), process):
            part.kill()
        process.wait()


@pytest.fixture
def joined() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a cluster of two nodes, and an environment that has its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environ = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with ExitStack() as nodes:
        port = address.rpartition(":")[2]
        folder = nodes.enter_context(TemporaryDirectory(prefix="rj-", dir="/tmp"))
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        nodes.enter_context(node(*head, environ=environ))
        wait_until(lambda: listens(int(port)))
        nodes.enter_context(node(f"--address={address}", environ=environ))
        wait_until(lambda: answers(address, environ) == 2)
        yield address, environ


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def answers(address: str, environ: Mapping[str, str]) -> int:
    """Nodes that are alive, as ``ray status`` counts them."""
    status = subprocess.run(
        [RAY, "status", f"--address={address}"], check=False, env=environ, capture_output=True, text=True
    )
    return status.stdout.count("node_")


def test_a_run_on_two_nodes(connect, database, joined):
    address, environ = joined
    make_docs(connect, 4_000)
    options = ("--table", "docs", "--text", "title", "--model", "hash:8", "--ray-address", address, "--json")
    run = subprocess.run(
        [sys.executable, "-m", "vecfill", "run", "--database", database, *options],
        check=False,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["outcome"], result["engine"], result["updated"]) == ("complete", "ray", 4_000)
    assert_every_vector_is_its_texts(connect)
    assert answers(address, environ) == 2, "the cluster is left as it was"
