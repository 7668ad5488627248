"""The listings: real jobs, in JSON files inside the package ``network-jobs-data`` (PyPI, MIT)."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from vecfill.errors import ConfigError

PACKAGE = "network_jobs_data"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The fields of a job that the board shows. Two in a thousand have no department."""

    id: uuid.UUID
    title: str
    company: str
    department: str | None
    location: str


def load(rows: int | None = None) -> list[Listing]:
    """Reads the listings, always in the same order and with the same ids.

    Args:
        rows: how many, drawn evenly from all; None, or a number above the total, takes all.

    Raises:
        ConfigError: the package is not installed.
    """
    everything = _everything(PACKAGE)
    count = min(rows or len(everything), len(everything))
    return [_listing(everything[position * len(everything) // count]) for position in range(count)]


@functools.cache
def _everything(package: str) -> list[dict[str, Any]]:
    """The record of each listing, in the order of their numbers; a benchmark asks for them several times."""
    found: dict[int, dict[str, Any]] = {}
    for record in _records(_root(package)):
        found.setdefault(record["id"], record)
    return [found[number] for number in sorted(found)]


def _root(package: str) -> Traversable:
    try:
        return resources.files(package)
    except ModuleNotFoundError as error:
        raise ConfigError("the listings of the demo are not installed: pip install 'vecfill[demo]'") from error


def _records(folder: Traversable) -> Iterator[dict[str, Any]]:
    """Yields every record of every file: a listing occurs in the file of its category and in narrower ones as well.

    Files without a list (manifests and names) have no listings.
    """
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _records(entry)
        elif entry.name.endswith(".json"):
            content = json.loads(entry.read_bytes())
            yield from content if isinstance(content, list) else ()


def _listing(record: dict[str, Any]) -> Listing:
    return Listing(
        id=uuid.uuid5(uuid.NAMESPACE_URL, record["url"]),
        title=record["title"],
        company=record["company"],
        department=record.get("department"),
        location=record["location"],
    )
