"""The command line of a verb on a target, for people to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from vecfill.config.model import Model
from vecfill.config.options import chosen, options_of
from vecfill.config.settings import QUEUE_SETTINGS
from vecfill.config.target import Target
from vecfill.remembered_failures import NOT_NEEDED

WITHOUT: dict[str, tuple[str, ...]] = {
    "run": (),
    "track": tuple(QUEUE_SETTINGS),
    "failures": (*NOT_NEEDED, *QUEUE_SETTINGS),
    "retry": NOT_NEEDED,
    "migrate start": (*NOT_NEEDED, *QUEUE_SETTINGS),
}
"""Settings of a target that a verb does not take."""


def command(verb: str, target: Target, *more: str) -> str:
    """Returns the command line of a verb on a target; the database is left to the environment."""
    return " ".join((f"vecfill {verb}", *_words(verb, target), *more))


def run_command(target: Target, model: Model | None, *more: str) -> str:
    """Returns the command line of a run, with a word in capitals for what is not known."""
    text = () if target.text or target.text_sql else ("--text '{TITLE}'",)
    return command("run", target, *text, "--model", shlex.quote(model.name) if model else "MODEL", *more)


def _words(verb: str, target: Target) -> Iterator[str]:
    given = chosen(target)
    for option in options_of(Target, without=WITHOUT[verb]):
        value = given.get(option.name)
        if option.is_switch and value:
            yield option.flag
        elif value is not None:
            for one in value if isinstance(value, list | tuple) else [value]:
                yield from (option.flag, shlex.quote(str(one)))
