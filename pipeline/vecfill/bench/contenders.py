"""Who takes part: the yardstick, what others do, ours, and the ceiling of the database side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vecfill.bench.bare import Bare
from vecfill.bench.cold import Command, Script
from vecfill.bench.library import Library
from vecfill.bench.ours import EncoderAlone, Inline, OnRay, WriterAlone
from vecfill.bench.recipe import Recipe
from vecfill.bench.scratch import Table
from vecfill.bench.worker import Runner
from vecfill.config.model import Model
from vecfill.encode.stage import EncodeSpec
from vecfill.errors import ConfigError
from vecfill.job import Job

MODEL, CEILING, DUPLICATES, COLD = "model", "ceiling", "duplicates", "cold"

DUPLICATE_SHARE = 0.9
"""Texts of the group ``duplicates`` that occur before."""

COLD_ROWS = 500
"""Rows of the group ``cold``: what a cron job finds."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: as in the report and for ``--only``.
        about: what it is, in a few words.
        group: which texts and model it works on: ``model``, ``ceiling``, ``duplicates``, ``cold``.
        make: its runner, from the group's job and texts.
        yardstick: whose rate it is compared with.
        table: whether it works on the scratch table, which is then refilled before each measurement.
        whole: its rate counts from start to end, there being no start-up in it; else from the first block's end.
        library: ``encode``'s padding is its own.
        ray: it starts a cluster for each measurement.
    """

    name: str
    about: str
    group: str
    make: Callable[[Job, tuple[str, ...]], Runner]
    yardstick: str
    table: bool = True
    whole: bool = False
    library: bool = False
    ray: bool = False


def _fp32(job: Job) -> Job:
    return _with_dtype(job, "float32")


def _with_dtype(job: Job, dtype: Literal["auto", "float32"]) -> Job:
    return replace(job, encode=replace(job.encode, model=replace(job.encode.model, dtype=dtype)))


def _deduped(job: Job) -> Job:
    return replace(job, encode=replace(job.encode, dedupe=True))


CONTENDERS = (
    Contender(
        name="encode",
        about="SentenceTransformer.encode, fp32, batches of 32, texts in memory, no database",
        group=MODEL,
        make=lambda job, texts: Library(model=job.encode.model, texts=texts),
        yardstick="encode",
        table=False,
        whole=True,
        library=True,
    ),
    Contender(
        name="encode best",
        about="the same at its best batch size",
        group=MODEL,
        make=lambda job, texts: Library(model=job.encode.model, texts=texts, search=True),
        yardstick="encode",
        table=False,
        whole=True,
        library=True,
    ),
    Contender(
        name="ray recipe",
        about="Ray Data as its documentation shows: map_batches over encode, our reader and writer",
        group=MODEL,
        make=lambda job, _: Recipe(job=job),
        yardstick="encode",
        ray=True,
    ),
    Contender(
        name="inline",
        about="vecfill in-process, PostgreSQL to PostgreSQL, fp32",
        group=MODEL,
        make=lambda job, _: Inline(job=_fp32(job)),
        yardstick="encode",
    ),
    Contender(
        name="ray",
        about="vecfill on Ray, PostgreSQL to PostgreSQL, fp32",
        group=MODEL,
        make=lambda job, _: OnRay(job=_fp32(job)),
        yardstick="encode",
        ray=True,
    ),
    Contender(
        name="inline auto",
        about="vecfill in-process with --dtype auto",
        group=MODEL,
        make=lambda job, _: Inline(job=_with_dtype(job, "auto")),
        yardstick="encode",
    ),
    Contender(
        name="encoder alone",
        about="vecfill's encode stage over blocks in memory, fp32",
        group=MODEL,
        make=lambda job, _: EncoderAlone(job=_fp32(job)),
        yardstick="encode",
    ),
    Contender(
        name="encode duplicates",
        about="encode, fp32, batches of 32, on texts of which 90% occur before",
        group=DUPLICATES,
        make=lambda job, texts: Library(model=job.encode.model, texts=texts),
        yardstick="encode duplicates",
        table=False,
        whole=True,
    ),
    Contender(
        name="inline duplicates",
        about="vecfill in-process on the same texts, fp32, each distinct text once",
        group=DUPLICATES,
        make=lambda job, _: Inline(job=_deduped(_fp32(job)), fresh=True),
        yardstick="encode duplicates",
        whole=True,
    ),
    Contender(
        name="script",
        about="a Python script from its start: loads the model, encodes texts of a file, fp32, keeps nothing",
        group=COLD,
        make=lambda job, texts: Script(model=job.encode.model, texts=texts),
        yardstick="script",
        table=False,
        whole=True,
    ),
    Contender(
        name="command",
        about="vecfill run from its start, in-process, PostgreSQL to PostgreSQL, fp32",
        group=COLD,
        make=lambda job, texts: Command(job=job, rows=len(texts)),
        yardstick="script",
        whole=True,
    ),
    Contender(
        name="bare copy+join",
        about="COPY BINARY and one UPDATE … FROM a batch of 2,000 rows, no accounting",
        group=CEILING,
        make=lambda job, _: Bare(job=job),
        yardstick="writer alone",
    ),
    Contender(
        name="writer alone",
        about="vecfill's write stage over blocks in memory",
        group=CEILING,
        make=lambda job, _: WriterAlone(job=job),
        yardstick="writer alone",
    ),
    Contender(
        name="hash inline",
        about="vecfill in-process with a model that costs nothing",
        group=CEILING,
        make=lambda job, _: Inline(job=job),
        yardstick="writer alone",
    ),
    Contender(
        name="hash ray",
        about="vecfill on Ray with a model that costs nothing",
        group=CEILING,
        make=lambda job, _: OnRay(job=job),
        yardstick="writer alone",
        ray=True,
    ),
)

COMPARED = (
    ("inline", "encode"),
    ("ray", "encode"),
    ("inline auto", "encode"),
    ("inline", "encode best"),
    ("inline", "ray recipe"),
    ("ray", "ray recipe"),
    ("inline", "encoder alone"),
    ("ray", "encoder alone"),
    ("inline duplicates", "encode duplicates"),
    ("command", "script"),
    ("hash inline", "writer alone"),
    ("hash ray", "writer alone"),
    ("writer alone", "bare copy+join"),
)
"""The ratios that are told beside the table, each within its round."""


def chosen(only: Sequence[str], model: Model) -> tuple[Contender, ...]:
    """Those that are named, or all; without a model's weights the ceiling alone.

    Raises:
        ConfigError: nobody has that name.
    """
    known = {one.name: one for one in CONTENDERS}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise ConfigError(f"--only names {unknown[0]!r}: choose among {', '.join(known)}")
    weights = not model.name.startswith("hash:")
    found = tuple(one for one in CONTENDERS if (one.name in only if only else weights or one.group == CEILING))
    if not weights and any(one.group != CEILING for one in found):
        raise ConfigError(f"--model {model.name} has no weights, and --only names what needs them: name another model")
    return found


def job_of(table: Table, model: Model) -> Job:
    """The scratch table's job: nothing is remembered and nothing sampled, so that every row is computed."""
    relation = table.relation
    spec = EncodeSpec(
        model=model,
        dim=relation.table.vector.dim,
        arity=relation.table.arity,
        column=f"{relation.table.label}.embedding",
        dedupe=False,
    )
    return Job(database=table.database, relation=relation, encode=spec)
