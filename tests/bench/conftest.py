"""The command line in this process, as the tests of ``cli`` call it."""

from tests.cli.conftest import vecfill

__all__ = ["vecfill"]
