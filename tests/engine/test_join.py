"""A run on a cluster that somebody else started: two nodes, as ``ray start`` makes them, that ask for a token."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from tests.tables import assert_every_vector_is_its_texts, make_docs

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
def node(*options: str, until: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Starts a node and gives what it says up to ``until``, which it says once the cluster knows it.

    It is killed at the end with all its processes: ``ray stop`` would end every Ray on this machine.
    """
    process = subprocess.Popen(
        [RAY, "start", *options, *NODE], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = ""
        while until not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        yield said
    finally:
        for part in (*psutil.Process(process.pid).children(recursive=True), process):
            part.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def joined() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a cluster of two nodes, one of which claims a GPU, and an environment that has its token."""
    environ = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with ExitStack() as nodes:
        folder = nodes.enter_context(TemporaryDirectory(prefix="rj-", dir="/tmp"))
        head = ("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={folder}")
        said = nodes.enter_context(node(*head, until="--address=", environ=environ))
        address = re.search(r"--address='([\d.]+:\d+)'", said)[1]
        nodes.enter_context(node(f"--address={address}", "--num-gpus=1", until="Ray runtime started", environ=environ))
        yield address, environ


RUN = """
import sys

from ray._private.internal_api import get_state_from_address
from vecfill.cli import main

address = sys.argv[-1]
try:
    main()
except SystemExit as ended:
    print(ended.code)
state = get_state_from_address(address)
nodes = state.node_table()
print(sum(node["Alive"] for node in nodes))
with_gpu = {node["NodeID"] for node in nodes if node["Resources"].get("GPU")}
placed = {(one["ActorClassName"], one["Address"]["NodeID"] in with_gpu) for one in state.actor_table(None).values()}
print(*sorted(f"{kind.partition('(')[2][:-1] or kind}:{on_gpu}" for kind, on_gpu in placed))
"""
"""The command; then what the cluster that it left knows, of actors that ended too."""


def test_a_run_on_two_nodes_and_the_gpu_of_one(connect, database, joined):
    """``hash`` needs no GPU, so the whole flow runs as it would on one, in which Ray believes. No pool is fused.

    With a reader and a writer: each takes some seconds of CPU to start.
    """
    address, environ = joined
    make_docs(connect, 6_000)
    options = ("--text", "title", "--model", "hash:8", "--max-connections", "3", "--json", "--ray-address", address)
    command = [sys.executable, "-c", RUN, "run", "--database", database, "--table", "docs", *options]
    done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    said, code, nodes, placed = done.stdout.strip().splitlines()
    result = json.loads(said)
    assert (code, result["outcome"], result["engine"], result["updated"]) == ("0", "complete", "ray", 6_000)
    assert nodes == "2", "the cluster is left as it was"
    off_the_gpu = {one.rpartition(":")[0] for one in placed.split() if one.endswith(":False")}
    on_the_gpu = {one.rpartition(":")[0] for one in placed.split() if one.endswith(":True")}
    assert "EncoderActor" in on_the_gpu - off_the_gpu
    assert {"MapBatches(ReadUnits)", "MapBatches(EncodeAndWrite)"} <= off_the_gpu - on_the_gpu
    assert_every_vector_is_its_texts(connect)
