"""Checks the length of an API's vectors."""

from __future__ import annotations

from vecfill.encode.api.answer import WrongAnswerError
from vecfill.errors import ConfigError


class Dimension:
    """Checks answer after answer: the first shows whether the model fits, later ones must agree with it.

    Attributes:
        value: the dimension, None while unknown.
    """

    def __init__(self, what: str, wanted: int | None, asked: int | None) -> None:
        """Takes the column's dimension (``wanted``) and --truncate-dim (``asked``), None for none."""
        self._what, self._asked = what, asked
        self.value = asked or wanted
        self._seen = False

    def check(self, given: int) -> None:
        """Checks the dimension of an answer.

        Raises:
            WrongAnswerError: it differs from earlier answers.
            ConfigError: it is the first answer and does not fit.
        """
        if self.value in (None, given):
            self.value, self._seen = given, True
            return
        if self._seen:
            raise WrongAnswerError(f"its vectors have {given} dimensions, earlier ones had {self.value}")
        raise ConfigError(
            f"{self._what} gives {given} dimensions although --truncate-dim asks for {self._asked}: it cannot shorten "
            "its vectors; leave --truncate-dim out"
            if self._asked
            else f"the embedding column has {self.value} dimensions but {self._what} gives {given}: set --truncate-dim "
            "if the model can shorten its vectors, or choose another model or column"
        )
