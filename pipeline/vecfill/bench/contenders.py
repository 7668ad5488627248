"""The contenders of ``bench pipeline``: the yardsticks, what others do, ours, and the limits of the database side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vecfill.bench.others import Command, Library, Recipe, Script
from vecfill.bench.ours import Work
from vecfill.bench.plain_writers import BATCH_ROWS, Bare
from vecfill.bench.runners import EncoderAlone, Inline, OnRay, WriterAlone
from vecfill.bench.worker import Runner
from vecfill.config.model import Model
from vecfill.errors import ConfigError

MODEL, CEILING, DUPLICATES, COLD = "model", "ceiling", "duplicates", "cold"

YARDSTICKS = {MODEL: "encode", DUPLICATES: "encode duplicates", COLD: "script", CEILING: "writer alone"}
"""The contender of each group that the others' rates are compared with."""

DUPLICATE_SHARE = 0.9
"""Texts of the group ``duplicates`` that occur before."""

COLD_ROWS = 500
"""Rows of the group ``cold``: about what a cron job finds."""

Texts = tuple[str, ...]


@dataclass(frozen=True)
class Contender:
    """One way to do the work; ``make`` gives its runner, from the scratch table and texts of its group."""

    name: str
    group: str
    about: str
    make: Callable[[Work, Texts], Runner]


def _fp32(work: Work) -> Work:
    return work.with_dtype("float32")


def _library(work: Work, texts: Texts) -> Runner:
    return Library(model=work.model, texts=texts)


_ABOUT = {
    "encode": "SentenceTransformer.encode, fp32, batches of 32, texts in memory, no database",
    "encode best": "the same at its best batch size",
    "ray recipe": "Ray Data as its documentation shows: map_batches over encode, our reader and writer",
    "inline": "vecfill in-process, PostgreSQL to PostgreSQL, fp32",
    "ray": "vecfill on Ray, PostgreSQL to PostgreSQL, fp32",
    "inline auto": "vecfill in-process with --dtype auto",
    "encoder alone": "vecfill's encode stage over blocks in memory, fp32",
    "encode duplicates": "encode, fp32, batches of 32, on texts of which 90% occur before",
    "inline duplicates": "vecfill in-process on the same texts, fp32, each distinct text once",
    "script": "a Python script from its start: loads the model, encodes texts of a file, fp32, keeps nothing",
    "command": "vecfill run from its start, in-process, PostgreSQL to PostgreSQL, fp32",
    "bare copy+join": f"COPY BINARY and one UPDATE … FROM a batch of {BATCH_ROWS:,} rows, no accounting",
    "writer alone": "vecfill's write stage over blocks in memory",
    "hash inline": "vecfill in-process with a model that costs nothing",
    "hash ray": "vecfill on Ray with a model that costs nothing",
}

_MAKE: dict[str, tuple[str, Callable[[Work, Texts], Runner]]] = {
    "encode": (MODEL, _library),
    "encode best": (MODEL, lambda work, texts: Library(model=work.model, texts=texts, search=True)),
    "ray recipe": (MODEL, lambda work, _: Recipe(work=work)),
    "inline": (MODEL, lambda work, _: Inline(work=_fp32(work))),
    "ray": (MODEL, lambda work, _: OnRay(work=_fp32(work))),
    "inline auto": (MODEL, lambda work, _: Inline(work=work.with_dtype("auto"))),
    "encoder alone": (MODEL, lambda work, _: EncoderAlone(work=_fp32(work))),
    "encode duplicates": (DUPLICATES, _library),
    "inline duplicates": (DUPLICATES, lambda work, _: Inline(work=replace(_fp32(work), dedupe=True), fresh=True)),
    "script": (COLD, lambda work, texts: Script(model=work.model, texts=texts)),
    "command": (COLD, lambda work, texts: Command(work=work, rows=len(texts))),
    "bare copy+join": (CEILING, lambda work, _: Bare(work=work)),
    "writer alone": (CEILING, lambda work, _: WriterAlone(work=work)),
    "hash inline": (CEILING, lambda work, _: Inline(work=work)),
    "hash ray": (CEILING, lambda work, _: OnRay(work=work)),
}

CONTENDERS = tuple(Contender(name, group, _ABOUT[name], make) for name, (group, make) in _MAKE.items())

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
"""The ratios beside the table, each within its round."""


def chosen(only: Sequence[str], model: Model) -> tuple[Contender, ...]:
    """Those named, or all; for a model without weights the ceiling alone.

    Raises:
        ConfigError: a name is unknown, or needs a model with weights.
    """
    known = {one.name: one for one in CONTENDERS}
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(f"--only names {unknown[0]!r}: choose among {', '.join(known)}")
    weights = not model.name.startswith("hash:")
    found = tuple(one for one in CONTENDERS if (one.name in only if only else weights or one.group == CEILING))
    if not weights and any(one.group != CEILING for one in found):
        raise ConfigError(f"--model {model.name} has no weights, which --only asks for: name another model")
    return found
