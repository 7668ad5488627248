"""Counts as messages say them: ``1 row``, ``2,000 rows``, ``1 entry has``, ``0 entries have``."""

from __future__ import annotations

_VERBS = {"is": "are", "was": "were", "has": "have"}


def count_of(count: int, noun: str, verb: str = "") -> str:
    """Returns the count with its noun, and with the verb that follows, both given in the singular."""
    number = f"{count:,} {noun if count == 1 else plural(noun)}"
    return f"{number} {verb_of(count, verb)}" if verb else number


def verb_of(count: int, verb: str) -> str:
    """Returns the verb of so many, given in the singular."""
    return verb if count == 1 else _VERBS.get(verb, verb.removesuffix("s"))


def plural(noun: str) -> str:
    """Returns the plural of a noun: rows, indexes, entries."""
    if noun.endswith("ry"):
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith("x") else "s")
