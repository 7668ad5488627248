"""Sends a request to an API until it gives vectors: paced, within the budget, retried, and checked."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tenacity import AsyncRetrying, retry_if_exception_type

from vecfill.config.model import Model
from vecfill.encode.api.answer import Answer, WrongAnswerError, parse
from vecfill.encode.api.budget import Budget, Decision
from vecfill.encode.api.client import Client
from vecfill.encode.api.concurrency import Pace, answered, sleep
from vecfill.encode.api.dimension import Dimension
from vecfill.encode.api.http_errors import (
    THROTTLED,
    RefusedError,
    RetryableError,
    classify,
    server_message,
)
from vecfill.encode.api.rate_limits import Headers, rate_wait
from vecfill.encode.api.request_sizes import RequestSizes
from vecfill.encode.api.retries import FEW_FAILURES, MAX_FAILURES, Retries
from vecfill.encode.api.token_counts import byte_counts, token_bound
from vecfill.encode.api.usage import SentRequest
from vecfill.encode.api.vector_format import Format
from vecfill.errors import VecfillError
from vecfill.interruptible import Stopped

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError

_log = logging.getLogger(__name__)

BUDGET_POLL_S = 0.05
"""Seconds between two questions to a budget of which pending requests hold a part."""

LOGGED_PAUSE_S = 1.0
"""A pause for a rate limit is logged once it is lengthened by so much: every answer asks for its own."""

UNAUTHORIZED = 401

PROBE = "dimension"
"""A harmless text: it tells the vectors' length, and whether an API that fails on other texts gives vectors at all."""


class SplitRequestError(Exception):
    """The budget or the API does not allow all texts in one request; it may allow some."""


class Requester:
    """Asks one model of one API. Lives in one event loop.

    Attributes:
        what: model and host, for messages.
        dimension: of the vectors.
        sent: all requests so far.
        sizes: how large a request the API accepts.
    """

    def __init__(self, model: Model, dim: int | None, budget: Budget, stopped: Stopped) -> None:
        """Makes the client; sends nothing. See ``ApiEncoder``."""
        self.what, self._give_up_after = f"model {model.api_name} at {model.api.host}", model.api.give_up_after
        self._budget, self._stopped = budget, stopped
        self.dimension = Dimension(self.what, dim, model.truncate_dim)
        self.sent: list[SentRequest] = []
        self.sizes = RequestSizes(self.what)
        self._pace = Pace(model.api.max_concurrency, stopped)
        self._client = Client(model)
        self._fails_on_texts = False
        self._ended: tuple[float, VecfillError] | None = None

    async def request(
        self, texts: list[str], estimate: int, *, can_split: bool, is_query: bool = False
    ) -> Answer | None:
        """Gets the texts' vectors; None if the budget does not allow it, or the run is to stop.

        Args:
            texts: of one request.
            estimate: their tokens, for an answer that does not say.
            can_split: the caller sends a part of them if the budget or the API does not allow all.
            is_query: the text is a search query.

        Raises:
            SplitRequestError: they do not, and ``can_split``.
            RefusedError: the API refuses one of the texts or so many, or keeps failing on them, but not on another.
            ConfigError: key, model, address or dimension are wrong.
            EncodeError: the API kept failing or throttling.
        """
        most = FEW_FAILURES if self._fails_on_texts else MAX_FAILURES
        retries = Retries(self.what, self._give_up_after, is_query=is_query, max_failures=most)
        try:
            return await self._retried(texts, estimate, can_split, retries)
        except VecfillError as error:
            if retries.gave_up and texts != [PROBE] and await self._is_alive(is_query=is_query):
                self._fails_on_texts = True
                raise RefusedError(str(retries.error)) from None
            self._ended = time.monotonic(), error
            raise

    async def _is_alive(self, *, is_query: bool) -> bool:
        """Whether the API gives a vector for a harmless text."""
        retries = Retries(self.what, self._give_up_after, is_query=is_query, max_failures=FEW_FAILURES)
        try:
            answer = await self._retried([PROBE], 1, False, retries)
        except (VecfillError, RefusedError):
            return False
        return answer is not None and not _broken(answer).any()

    async def _retried(self, texts: list[str], estimate: int, can_split: bool, retries: Retries) -> Answer | None:
        """Sends the request until it gives vectors or fails for good."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RetryableError),
            wait=retries.sleep,
            stop=retries.is_over,
            before_sleep=lambda _: self._before_sleep(retries),
            sleep=partial(sleep, stopped=self._stopped),
            retry_error_callback=retries.give_up,
        )
        answer: Answer | None = await retrying(self._send, texts, estimate, can_split, retries)
        if answer is not None:
            self._pace.succeeded()
        return answer

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _send(self, texts: list[str], estimate: int, can_split: bool, retries: Retries) -> Answer | None:
        """Sends the request once, as soon as pace and budget allow."""
        async with self._pace.slot() as started_at:
            if self._ended is not None and retries.queued_at <= self._ended[0]:
                raise self._ended[1]  # another request failed for good after this one was queued: the run has ended
            if can_split and not self.sizes.fit(byte_counts(texts)):
                raise SplitRequestError
            if self._stopped() or not await self._granted(token_bound(texts), can_split):
                return None
            try:
                return await self._attempt(texts, estimate, retries)
            except (RetryableError, RefusedError) as error:
                error.args = (self._client.key.hidden(str(error)),)
                if isinstance(error, RetryableError) and error.overloaded:
                    self._pace.overloaded(started_at)
                raise

    def _before_sleep(self, retries: Retries) -> None:
        """Logs the wait; pauses all requests if the API asks for it."""
        _log.info(
            "%s: %s; trying again in %.1f s",
            *(self.what, retries.error, retries.wait_s),
            extra={"waits_for": "the API", "wait_s": retries.wait_s},
        )
        if retries.error.wait:
            self._pace.pause(retries.wait_s)

    async def _granted(self, tokens: int, can_split: bool) -> bool:
        """Reserves the tokens; waits while pending requests hold what this one may need."""
        until = time.monotonic() + self._give_up_after
        while (decision := await self._budget.reserve(tokens, can_split)) is Decision.WAIT and time.monotonic() < until:
            if self._stopped():
                return False
            await asyncio.sleep(BUDGET_POLL_S)
        if decision is Decision.SPLIT:
            raise SplitRequestError
        return decision is Decision.GRANTED

    async def _attempt(self, texts: list[str], estimate: int, retries: Retries) -> Answer:
        """Sends one request; books what it has used, or may have used, whatever happens."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        reserved, secret, asked = token_bound(texts), self._client.key.secret, self._client.format.current
        sent = SentRequest(is_retry=retries.count(), charged=reserved, sent_at=time.perf_counter())
        self.sent.append(sent)
        try:
            response = await answered(self._client.send(texts, asked, is_query=retries.is_query), self._stopped)
            received_at = time.perf_counter()
            sent.transferred(response)
            answer = parse(response.content, len(texts))
            self._client.format.accepted(asked, was_rejected=retries.was_rejected)
            sent.tokens, sent.charged = (estimate, reserved) if answer.tokens is None else (answer.tokens,) * 2
            self._check(answer, response.headers, texts)
        except APIStatusError as error:
            sent.transferred(error.response)
            sent.charged, sent.throttled = 0, error.status_code == THROTTLED
            meaning = await self._classified(error, secret)
            raise self._as_float(asked, meaning, retries) from None  # the client's own message may quote the key
        except (WrongAnswerError, RefusedError) as error:
            raise self._as_float(asked, error, retries) from None
        except (TimeoutError, APITimeoutError):
            raise RetryableError("no complete answer within --request-timeout", overloaded=True) from None
        except APIConnectionError as error:
            sent.charged = 0 if type(error.__cause__).__name__ == "ConnectError" else reserved
            raise RetryableError(f"the connection broke: {_cause(error)}") from None
        finally:
            await self._budget.settle(reserved, sent.charged)
        sent.answered_at = received_at
        return answer

    def _as_float(self, asked: Format, error: Exception, retries: Retries) -> Exception:
        """Returns the error; or, where the format may be the cause, one that sends the request again as float.

        Of an error of the API's own it rarely is: one that comes twice.
        """
        fails_again = isinstance(error, RetryableError) and error.unserved and retries.is_retry
        without_vectors = isinstance(error, RefusedError) or (isinstance(error, WrongAnswerError) and error.empty)
        if not (without_vectors or fails_again) or not self._client.format.rejected(asked):
            return error
        retries.was_rejected = True
        return RetryableError(f"no vectors as base64 ({error})", wait=0.0)

    def _check(self, answer: Answer, headers: Headers, texts: list[str]) -> None:
        """Obeys the rate limits of the headers, and checks dimension and values of the vectors."""
        wait = min(self._give_up_after, rate_wait(headers, answer.tokens or token_bound(texts)))
        if self._pace.pause(wait) >= LOGGED_PAUSE_S:
            _log.info(
                "%s: its rate limit is reached; the next request in %.0f s",
                *(self.what, wait),
                extra={"waits_for": "the API", "wait_s": wait},
            )
        self.dimension.check(answer.vectors.shape[1])
        broken = np.flatnonzero(_broken(answer))
        if len(broken):
            usable = len(broken) < len(texts) or len(texts) == 1  # one text may spoil all of its request
            reason = f"{len(broken)} of its {len(texts)} vectors are NaN, infinite or zero"
            raise WrongAnswerError(reason, answer if usable else None)

    async def _classified(self, error: APIStatusError, secret: str) -> Exception:
        """Returns what the status stands for; renews the key if that is the problem."""
        if error.status_code == UNAUTHORIZED and await self._client.key.renew(secret):
            return RetryableError("the key has expired", wait=0.0)
        return classify(error, self.what, self._client.key.hidden(server_message(error)))


def _broken(answer: Answer) -> npt.NDArray[np.bool_]:
    """Bool [n]: the vector is NaN, infinite or zero."""
    return np.asarray(~np.isfinite(answer.vectors).all(axis=1) | ~answer.vectors.any(axis=1))


def _cause(error: APIConnectionError) -> str:
    """Returns why the connection broke: the client's own message is always the same."""
    return f"{type(error.__cause__).__name__}: {error.__cause__}".rstrip(": ") if error.__cause__ else str(error)
