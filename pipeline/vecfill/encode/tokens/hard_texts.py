"""Texts that tell two forward passes apart, if anything does: the tokenizer's and the transformer's edges. Pure."""

from __future__ import annotations

from collections.abc import Iterable

ORDINARY = (
    "Senior nurse (night shift), reports to the head of intensive care in Leeds; grade 7, from €70,000 a year.",
    "Data engineer at ACME\nZürich, remote\r\n- Python\t3.11, 100 %",
    "https://example.org/a?b=c#d user@example.org snake_case camelCase x = y[0] + 1e-5",
    "It's the baker's 1st apprenticeship — “quoted”, don't, l'été, naïve co-operation…",
    "SHOUTED WORDS AND MiXeD case",
)

_SCRIPTS = (
    "Łódź žluťoučký kůň İstanbul ß ﬁne Ǆ",
    "Ο νοσοκόμος στην Αθήνα",
    "Инженер-программист в Москве, ещё",
    "مهندس برمجيات في القاهرة",
    "מהנדס תוכנה בתל אביב שָׁלוֹם",
    "डेटा इंजीनियर मुंबई",
    "วิศวกรข้อมูลกรุงเทพ",
    "東京のデータエンジニア ﾃﾞｰﾀ",
    "数据工程师在北京",
    "서울의 데이터 엔지니어",
    "ａｂｃ １２３ Ⅳ ½ ²",
    "e\u0301 n\u0303 a\u0308\u0304",
)

_ODD = (
    *("", " ", "a", "?", "\n", "\t  \t", "a  b   c    d", " before and after "),
    *("\u200b", "\x00", "\x07bell", "soft\u00adhyphen", "\ufeffmark", "non\u00a0breaking\u2009blanks"),
    "\ufffd\U000e0041",
    "\N{SLIGHTLY SMILING FACE} \N{THUMBS UP SIGN}\U0001f3fd \U0001f469\u200d\U0001f680 \U0001f1e8\U0001f1ed",
    "[SEP] [CLS] [MASK] [PAD] [UNK] <s> </s> <pad> <mask> <unk>",
    "x" * 300,
    "0123456789" * 12,
)

_MARKS = 64
"""Added tokens that get a text each; some models have thousands, all alike."""


def hard_texts(max_tokens: int | None, added: Iterable[str]) -> list[str]:
    """Returns the texts.

    Args:
        max_tokens: the model's limit, for texts around it and beyond.
        added: the tokenizer's added tokens, such as ``[MASK]``, for texts that contain them.
    """
    marks = [f"{token} a {token}{token} b{token}c" for token in sorted(added)[:_MARKS]]
    limit = max_tokens or 0
    words = " ".join(ORDINARY)
    around = ["word " * count for count in (limit // 2, limit - 3, limit - 2, limit - 1, limit + 9) if count > 0]
    beyond = [words * (1 + limit // 60), "数据 工程 " * limit]
    return [*ORDINARY, *_SCRIPTS, *_ODD, *marks, *around, *beyond, words]
