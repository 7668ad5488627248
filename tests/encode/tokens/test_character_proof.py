"""Characters are compared once, and texts with one that differs are found."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vecfill.encode.tokens.character_proof import CharacterProof

ODD = "\x7f\u0898\U0001239a"


@given(st.lists(st.text(st.sampled_from("ab é数" + ODD), max_size=9), min_size=1, max_size=9))
def test_texts_with_a_character_that_differs_are_doubtful(texts):
    asked: list[str] = []

    def differ(some):
        asked.extend(some)
        return np.array([any(one in text for one in ODD) for text in some])

    proof = CharacterProof(differ)
    for _ in range(2):
        assert proof.doubtful(texts).tolist() == [any(one in text for one in ODD) for text in texts]
    assert len(asked) == len(set(asked)) == 2 * len({*map(chr, range(128)), *"".join(texts)})
