"""Engines to run: one Ray for all tests that are not about starting it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from vecfill.engine.warm import Warm
from vecfill.job import Engine, Job


@contextmanager
def inline(job: Job, warm: Warm, **wish: int) -> Iterator[Engine]:
    from vecfill.engine.inline import InlineEngine

    engine = InlineEngine(job)
    yield engine
    engine.close()


@contextmanager
def on_ray(job: Job, warm: Warm, **wish: int) -> Iterator[Engine]:
    resources = warm.cluster(None, verbose=False)
    from vecfill.engine.pools import Pools
    from vecfill.engine.ray import RayEngine

    pools = Pools.fitting(resources, **({"device": "auto", "actors": None, "gpus": None, "writers": None} | wish))
    engine = RayEngine(job, pools, warm.encoders(pools, job.encode.calls), warm.coordination())
    yield engine
    engine.close()


OpenEngine = Callable[..., Engine]


def opener(kind: Callable[..., Iterator[Engine]], warm: Warm) -> Iterator[OpenEngine]:
    with ExitStack() as engines:
        yield lambda job, **wish: engines.enter_context(kind(job, warm, **wish))


@pytest.fixture(
    params=[
        pytest.param(inline, id="inline"),
        pytest.param(
            on_ray,
            id="ray",
            marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")],
        ),
    ]
)
def open_engine(request, warm) -> Iterator[OpenEngine]:
    """Opens an engine on a job; closed after the test."""
    yield from opener(request.param, warm)


@pytest.fixture
def open_ray(warm) -> Iterator[OpenEngine]:
    yield from opener(on_ray, warm)
