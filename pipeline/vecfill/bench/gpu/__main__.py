"""The command line of ``scripts/gpu-check``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from vecfill.bench.gpu.check import PARTS, Plan, Report, check, write
from vecfill.errors import VecfillError


def main(arguments: list[str] | None = None) -> int:
    """Checks; returns 0 if every vector was right, else 1."""
    parser = argparse.ArgumentParser(
        "gpu-check", description="Check that a GPU computes right vectors, and measure it. Exit code 1: they are wrong."
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), help="Do this part; may be repeated.")
    parser.add_argument("--seconds", type=float, default=480.0, help="End within so many seconds (default 480).")
    parser.add_argument("--report", type=Path, default=Path("gpu-check"), help="Folder of gpu-check.json and the page.")
    parser.add_argument("--tiny", action="store_true", help="Small models on the CPU; so it is where there is no GPU.")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="gpu-check: %(message)s", stream=sys.stderr)
    import torch

    tiny = given.tiny or not torch.cuda.is_available()
    if tiny and not given.tiny:
        logging.getLogger(__name__).warning("torch finds no GPU: small models on the CPU instead")
    plan = Plan.tiny(given.seconds) if tiny else Plan(device="cuda", seconds=given.seconds)
    return _told(check(plan, given.only or (), lambda late: _end(_told(late, given.report))), given.report)


def _told(report: Report, folder: Path) -> int:
    """Writes the report, says where it is, and returns the exit code."""
    try:
        files = write(report, folder)
    except (VecfillError, ImportError) as error:
        print(json.dumps(report))
        print(f"gpu-check: no files: {error}", file=sys.stderr)
        return 1
    for line in [*(f"left out: {line}" for line in report["left_out"]), *map(str, files)]:
        print(line)
    print("right" if report["right"] else "WRONG: see correctness, memory and errors in gpu-check.json")
    return 0 if report["right"] else 1


def _end(code: int) -> None:
    """Ends the process without waiting for a part that hangs."""
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
