"""When a request is sent again, after which wait, and when the run gives up: the rules for tenacity's loop."""

from __future__ import annotations

import time

from tenacity import RetryCallState, wait_random_exponential

from vecfill.encode.api.answer import Answer, WrongAnswerError
from vecfill.encode.api.http_errors import RetryableError
from vecfill.errors import EncodeError
from vecfill.wording import count_of

MAX_FAILURES = 6
"""Failures of one request, HTTP 429 excluded, that end the run: with the waits between them some 15 seconds."""

FEW_FAILURES = 3
"""The same limit once an API was seen to fail because of a request's texts: a smaller request is tried sooner."""

MAX_WRONG_ANSWERS = 3
"""Wrong answers to one request that end the run: a server that counts wrong does not learn it."""

BACKOFF = wait_random_exponential(multiplier=0.5, max=30)
"""Full jitter: a random wait below a limit in seconds that doubles each time."""


class Retries:
    """The retries of one request.

    Attributes:
        queued_at: ``time.monotonic`` when the request was to be sent.
        error: the last error.
        wait_s: seconds to wait after it: what the API asks for, or our own back-off.
        is_query: the request is a search query's.
        was_rejected: the request gave no vectors as base64.
        gave_up: the request failed for good, and not because the API has too many requests.
    """

    error: RetryableError
    wait_s: float
    was_rejected = gave_up = False

    def __init__(
        self, what: str, give_up_after: float, *, is_query: bool = False, max_failures: int = MAX_FAILURES
    ) -> None:
        """Takes model and host, for messages, and the seconds that the request may take from its first sending."""
        self.is_query, self._max_failures = is_query, max_failures
        self._what, self._give_up_after = what, give_up_after
        self.queued_at = self._first_sent_at = time.monotonic()
        self._sent = self._failures = self._wrong = 0

    def count(self) -> bool:
        """Counts a request that is about to be sent; returns whether it is a retry."""
        if self._sent == 0:
            self._first_sent_at = time.monotonic()  # the time in the queue does not count
        self._sent += 1
        return self.is_retry

    @property
    def is_retry(self) -> bool:
        """Whether the request was sent more than once."""
        return self._sent > 1

    def sleep(self, state: RetryCallState) -> float:
        """Returns the seconds to sleep: none if the API asks for a wait, which then holds for all requests."""
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, RetryableError)  # noqa: S101
        self.error, self.wait_s = error, BACKOFF(state) if error.wait is None else error.wait
        return self.wait_s if error.wait is None else 0.0

    def is_over(self, _state: RetryCallState) -> bool:
        """Whether failures, wrong answers or time have reached their limit."""
        self._failures += self.error.counts
        self._wrong += isinstance(self.error, WrongAnswerError)
        late = time.monotonic() - self._first_sent_at + self.wait_s > self._give_up_after
        return late or self._failures >= self._max_failures or self._wrong >= MAX_WRONG_ANSWERS

    def give_up(self, _state: RetryCallState) -> Answer:
        """Returns the usable part of a wrong answer if retries did not help.

        Raises:
            EncodeError: there is none.
        """
        error, seconds = self.error, time.monotonic() - self._first_sent_at
        if isinstance(error, WrongAnswerError) and error.answer is not None and self._wrong >= MAX_WRONG_ANSWERS:
            return error.answer
        self.gave_up = error.counts
        asked = f", which asks to wait {error.wait:.0f} s" if error.wait else ""
        raise EncodeError(
            f"{self._what} gave no vectors in {count_of(self._sent, 'request')} and {seconds:.0f} s, last error: "
            f"{error}{asked}: run again later; committed rows are kept"
        )
