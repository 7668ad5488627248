"""How long a table takes on how many devices, and what limits it; from reports of other measurements. Pure.

Measured figures are taken as they are; all others are derived, and kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vecfill.errors import ConfigError

Report = dict[str, Any]

TABLE_ROWS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
"""Tables whose hours are told."""

_LONG_TEXT = 100
"""Tokens from which on a text's tokens count as those of long texts: the tokenizer's start at each text pays less."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one device does with texts of one length.

    Attributes:
        model: its name.
        tokens: of each text.
        rows_per_s: of the encoder on one device, from tokens or texts to vectors.
        tokenized_per_s: texts that the tokenizer of one core does in a second, the fast one where that was measured;
            None where none was measured alone, since it is part of ``rows_per_s``.
    """

    model: str
    tokens: float
    rows_per_s: float
    tokenized_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What the server does.

    Attributes:
        dim: of the vectors.
        rows_per_s: of all writers together, WAL included.
        wal_bytes_per_row: of WAL.
    """

    dim: int
    rows_per_s: float
    wal_bytes_per_row: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the table is embedded on.

    Attributes:
        cores: CPU cores that tokenize.
        wal_mb_per_s: MB of WAL that the server's disk or its replicas take in a second; None for no limit.
        usd_per_hour: of the machine for each device; None where money is not asked for.
    """

    cores: int
    wal_mb_per_s: float | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Size:
    """A derived line.

    Attributes:
        model, tokens: as in ``Speed``.
        devices: how many compute.
        rows_per_s: of the slowest part.
        limit: which part that is: ``device``, ``tokenizer``, ``UPDATE`` or ``WAL``.
        hours: for each of ``TABLE_ROWS``.
        usd_per_million: for a million rows; None where no price is given.
    """

    model: str
    tokens: float
    devices: int
    rows_per_s: float
    limit: str
    hours: tuple[float, ...]
    usd_per_million: float | None


def speeds_of(report: Report) -> list[Speed]:
    """Returns what a report of ``scripts/gpu-check`` or of ``vecfill bench pipeline --json`` measured.

    Raises:
        ConfigError: it holds no speed of an encoder.
    """
    try:
        found = list(_of_check(report) if "speed" in report else _of_pipeline(report))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"the report of speeds lacks {error}: make it anew with this version") from error
    if not found:
        raise ConfigError("the report holds no speed: run scripts/gpu-check, or bench pipeline with 'encoder alone'")
    return found


def _of_check(report: Report) -> Iterator[Speed]:
    for line in report["speed"] or []:
        kind = "long texts" if line["tokens"] >= _LONG_TEXT else "short texts"
        measured = report["tokens"] or {}
        by_threads = measured.get(f"{kind}, fast") or measured.get(kind) or {}
        rates = {int(threads): rate for threads, rate in by_threads.items()}
        most = max(rates, default=0)
        yield Speed(
            model=f"{line['model']}, {line['dtype']}",
            tokens=line["tokens"],
            rows_per_s=line["device_tokens_per_s"] / line["tokens"],
            tokenized_per_s=rates[most] / most / line["tokens"] if most else None,
        )


def _of_pipeline(report: Report) -> Iterator[Speed]:
    for line in report["contenders"]:
        if line["name"] == "encoder alone":
            yield Speed(
                model=f"{report['model']}, {line['dtype']}",
                tokens=round(line["tokens_per_s"] / line["rows_per_s"], 1),
                rows_per_s=line["rows_per_s"],
                tokenized_per_s=None,
            )


def writing_of(report: Report) -> Writing:
    """Returns what ``vecfill bench write --json`` measured of our writers.

    Raises:
        ConfigError: it is another report.
    """
    try:
        (line,) = [line for line in report["ways"] if line["name"] == "vecfill, writers"]
        return Writing(dim=report["dim"], rows_per_s=line["rows_per_s"], wal_bytes_per_row=line["wal_bytes_per_row"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the report of writing is none of `vecfill bench write --json`: make one") from error


def sizes(speeds: Sequence[Speed], writing: Writing, devices: Sequence[int], machine: Machine) -> list[Size]:
    """Returns a line for each model, length and number of devices."""
    return [_size(speed, writing, count, machine) for speed in speeds for count in devices]


def _size(speed: Speed, writing: Writing, devices: int, machine: Machine) -> Size:
    rates = {"device": speed.rows_per_s * devices, "UPDATE": writing.rows_per_s}
    if speed.tokenized_per_s is not None:
        rates["tokenizer"] = speed.tokenized_per_s * machine.cores
    if machine.wal_mb_per_s is not None:
        rates["WAL"] = machine.wal_mb_per_s * 1e6 / writing.wal_bytes_per_row
    limit = min(rates, key=lambda part: rates[part])
    rate, price = rates[limit], machine.usd_per_hour
    return Size(
        model=speed.model,
        tokens=speed.tokens,
        devices=devices,
        rows_per_s=rate,
        limit=limit,
        hours=tuple(rows / rate / 3600 for rows in TABLE_ROWS),
        usd_per_million=None if price is None else 1e6 / rate / 3600 * devices * price,
    )


def as_report(speeds: Sequence[Speed], writing: Writing, devices: Sequence[int], machine: Machine) -> Report:
    """Returns everything as plain values, measured and derived apart."""
    return {
        "measured": {"speeds": [asdict(one) for one in speeds], "writing": asdict(writing)},
        "assumed": asdict(machine),
        "derived": [asdict(one) for one in sizes(speeds, writing, devices, machine)],
        "table_rows": list(TABLE_ROWS),
    }
