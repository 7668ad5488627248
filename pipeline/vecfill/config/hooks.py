"""Commands to run when a target has ended."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class HookOptions(Spec):
    """Commands of a shell that get the result of a run. They may hold the secret address of a webhook."""

    on_end: str | None = option(
        "Run COMMAND in a shell after each target has ended, with the result as a JSON object on stdin.",
        default=None,
        metavar="COMMAND",
        secret=True,
    )
    on_fail: str | None = option(
        "Run COMMAND likewise, but only if the target failed: it ended with an exit code other than 0.",
        default=None,
        metavar="COMMAND",
        secret=True,
    )
    hook_timeout: float = option(
        "Kill a command of --on-end or --on-fail after X seconds.", default=60.0, gt=0, le=86_400
    )
