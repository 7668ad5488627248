"""Encoders that share a node: its model is fetched and proven once."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own settings, at its import
]

WAIT_S = 0.5
"""For which the first waits for another that loads beside it."""


def test_the_others_do_not_wait_for_ever_for_one_that_died(monkeypatch):
    from vecfill.engine import coordinator

    state = coordinator.RunState()
    assert [state.may_load("node", encoder) for encoder in ("first", "other", "first")] == [True, False, True]
    monkeypatch.setattr(coordinator, "LOAD_WAIT_S", -1.0)
    assert state.may_load("node", "other")


def test_one_encoder_of_a_node_loads_the_model_before_the_others(warm, tmp_path):
    warm.cluster(None, verbose=False)
    import ray

    from vecfill.engine.encoders import Assignment, Encoders, end_actors, start_encoders

    journal = tmp_path / "journal"

    class Stage:
        def warm(self):
            with journal.open("a") as file:
                file.write("begins\n")
            deadline = time.monotonic() + WAIT_S
            while journal.read_text() == "begins\n" and time.monotonic() < deadline:
                time.sleep(0.01)
            with journal.open("a") as file:
                file.write("ends\n")

        def __call__(self, block):
            return block

    class Encode:
        def stage(self, worker):
            return Stage()

    actors = start_encoders(2, cpus=0.01, gpus=0, calls=1)
    try:
        ray.get([actor.__ray_ready__.remote() for actor in actors])
        assignment = Assignment(encode=Encode(), share=2, gpus=0, coordination=warm.coordination(), shared=None)
        encoders = Encoders(actors, assignment)
        encoders.begin()
        block = pa.table({"n": [1]})
        done = [actor.encode.remote(encoders._run, encoders._assignment, block) for actor in actors]
        assert all(pa.ipc.open_stream(one).read_all().equals(block) for one in ray.get(done))
    finally:
        end_actors(actors)
    assert journal.read_text().split() == ["begins", "ends"] * 2
