"""Contenders are forked by a server that has the libraries: each in a new Python would import them anew."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

import pytest

LIBRARIES = ["vecfill.bench.runners", "vecfill.bench.others", "vecfill.bench.plain_writers", "vecfill.bench.device"]
THE_MODELS = ["sentence_transformers", "vecfill.encode.native.native_encoder", "vecfill.encode.library.padded_pass"]


@pytest.fixture(scope="session")
def fork_server() -> Iterator[BaseContext]:
    yield from _started(LIBRARIES)


@pytest.fixture
def fork_server_of_models() -> Iterator[BaseContext]:
    """The same with what a model needs, for the test alone."""
    forkserver._forkserver._stop()
    yield from _started([*LIBRARIES, *THE_MODELS])


def _started(libraries: list[str]) -> Iterator[BaseContext]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(libraries)
    yield context
    forkserver._forkserver._stop()
    context.set_forkserver_preload(LIBRARIES)  # the one of the session starts again when it is next needed


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """For tests of what is measured; those of the processes themselves (``test_worker.py``) do without."""
    has_model = "fork_server_of_models" in request.fixturenames
    context = request.getfixturevalue("fork_server_of_models" if has_model else "fork_server")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)
