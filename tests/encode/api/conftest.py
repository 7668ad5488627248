"""Short waits: these tests wait as long as a server asks, not for our own back-off."""

from __future__ import annotations

import pytest
from tenacity import wait_random_exponential

from vecfill.encode.api import api_key, retries


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retries, "BACKOFF", wait_random_exponential(multiplier=0.02, max=30))
    for name in (*api_key.VARIABLES, "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
