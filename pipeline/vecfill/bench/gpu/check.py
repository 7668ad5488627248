"""The parts of a check, in order, within a time; one JSON and one page."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import SHAPES, SMALL, Device, Shape, written
from vecfill.bench.gpu.speed import Sizes
from vecfill.encode.encoding import error_line

Report = dict[str, Any]

_log = logging.getLogger(__name__)

_NO_MORE, _LATE = 0.9, 0.97
"""Shares of the time after which no part begins, and after which one that still runs is given up."""

SERVER = "server"
"""Folder of the database server."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is checked.

    Attributes:
        device: ``cuda`` or ``cpu``.
        seconds: of the whole.
        shapes: models whose speed is measured.
        sizes: of their texts.
        families: how many of the small models are compared.
        rows: of the table that is filled.
    """

    device: Device
    seconds: float
    shapes: tuple[Shape, ...] = SHAPES
    sizes: Sizes = field(default_factory=Sizes)
    families: int = len(SMALL)
    rows: int = 200_000

    @classmethod
    def tiny(cls, seconds: float) -> Plan:
        """The same for a CPU, with small models and few texts."""
        return cls(
            device="cpu",
            seconds=seconds,
            shapes=SMALL[:1],
            sizes=Sizes(lengths=(8, 16), tokens=2_000),
            families=2,
            rows=500,
        )


def check(plan: Plan, only: Sequence[str] = (), late: Callable[[Report], object] = lambda _: None) -> Report:
    """Does the parts and returns what was found; a part that fails says why and does not end the others.

    Args:
        plan: what is checked.
        only: names of ``PARTS``; empty for all.
        late: called in another thread with what was found so far, if a part does not end in time. It must end the
            process: what hangs cannot be stopped.
    """
    budget, report = Budget(plan.seconds), _head(plan)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name, _cache_in(Path(name)):
        folder = Path(name)
        folder.chmod(0o755)  # as root the server runs as another user, who must reach its folder
        timer = threading.Timer(_LATE * plan.seconds, lambda: late(_so_far(report, budget, folder)))
        timer.daemon = True
        timer.start()
        try:
            for part in PARTS:
                if only and part not in only:
                    budget.left_out.append(f"{part}: not asked for")
                elif budget.allows(_NO_MORE, part):
                    report["running"] = part
                    report[part] = _done(part, plan, folder, budget, report)
                    _log.info("%s: done at %.0f s", part, budget.spent)
        finally:
            timer.cancel()
            report.pop("running", None)
    return _judged(report, budget)


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Takes an empty cache folder: all is proven and measured anew."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        os.environ |= {"XDG_CACHE_HOME": before} if before is not None else {}


def _so_far(report: Report, budget: Budget, folder: Path) -> Report:
    """What was found while a part still runs; leaves no server and no files."""
    from vecfill.bench.gpu.end_to_end import stop_server

    found = dict(report)
    budget.left_out.append(f"{found.pop('running', 'the rest')}: not ended within {budget.spent:.0f} s")
    stop_server(folder / SERVER)
    shutil.rmtree(folder, ignore_errors=True)
    return _judged(found, budget)


def _judged(report: Report, budget: Budget) -> Report:
    right = [line.get("right", True) for line in report.get("correctness") or []]
    right.append((report.get("memory") or {}).get("right", True))
    return report | {
        "right": all(right) and not report["errors"],
        "left_out": budget.left_out,
        "seconds": round(budget.spent, 1),
    }


def _head(plan: Plan) -> Report:
    from vecfill.encode.remembered import versions_of

    libraries = ("torch", "transformers", "sentence-transformers", "tokenizers", "tokie", "flash-attn", "vecfill")
    return {
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "device": plan.device,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions_of(libraries),
        **dict.fromkeys(PARTS),
        "errors": {},
    }


def _done(name: str, plan: Plan, folder: Path, budget: Budget, report: Report) -> Any:
    try:
        return PARTS[name](plan, folder, budget)
    except Exception as error:  # the other parts' figures are worth having
        _log.exception("%s failed", name)
        report["errors"][name] = error_line(error, 500)
        return None


def _card(plan: Plan, _folder: Path, _budget: Budget) -> Any:
    from vecfill.bench.gpu.card import card

    return card(plan.device)


def _correctness(plan: Plan, folder: Path, budget: Budget) -> Any:
    from vecfill.bench.gpu.correctness import correctness

    return correctness(folder, plan.device, budget, plan.families)


def _memory(plan: Plan, folder: Path, budget: Budget) -> Any:
    from vecfill.bench.gpu.correctness import memory_runs_out

    return memory_runs_out(folder, plan.device, budget)


def _speed(plan: Plan, folder: Path, budget: Budget) -> Any:
    from vecfill.bench.gpu.speed import speed

    return speed(plan.shapes, plan.sizes, folder, plan.device, budget)


def _tokens(plan: Plan, folder: Path, budget: Budget) -> Any:
    from vecfill.bench.gpu.tokens import tokens

    return tokens(plan.shapes[0], _first(plan, folder), budget)


def _end_to_end(plan: Plan, folder: Path, budget: Budget) -> Any:
    from vecfill.bench.gpu.end_to_end import end_to_end

    place = _first(plan, folder)
    return end_to_end(plan.shapes[0], place, device=plan.device, home=folder / SERVER, rows=plan.rows, budget=budget)


def _first(plan: Plan, folder: Path) -> Path:
    """The folder of the first shape, written if no other part has."""
    shape = plan.shapes[0]
    place = folder / shape.name
    return place if (place / "modules.json").exists() else written(shape, place, plan.device)


PARTS: dict[str, Callable[[Plan, Path, Budget], Any]] = {
    "card": _card,
    "correctness": _correctness,
    "memory": _memory,
    "speed": _speed,
    "tokens": _tokens,
    "end_to_end": _end_to_end,
}
"""By name, in order."""


def write(report: Report, folder: Path) -> list[Path]:
    """Writes ``gpu-check.json`` and ``gpu-check.html``; returns their paths."""
    from vecfill.bench.render import check_folder, render, write_files

    check_folder(folder)
    files = write_files(folder, {"gpu-check.json": json.dumps(report, indent=1)})  # first: the page must not cost it
    return files + write_files(folder, {"gpu-check.html": render("gpu.html.j2", {"figure": figure}, report=report)})


def figure(value: Any) -> str:
    """A figure for the page: rates with a unit, shares and cosines with their digits, a dash where there is none."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure(one)}" for name, one in value.items()) or "–"
    if not isinstance(value, float | int) or isinstance(value, bool):
        return "–" if value is None else str(value)
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.2f} {unit}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
