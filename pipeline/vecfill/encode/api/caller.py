"""One request to an API until it gives vectors: paced, within the budget, tried again, and checked."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from vecfill.bisection import SHARED_FAULT_AFTER
from vecfill.encode.api.answer import Answer, WrongAnswerError, read
from vecfill.encode.api.api_options import ApiOptions
from vecfill.encode.api.budget import Budget, Verdict
from vecfill.encode.api.client import Client, Response
from vecfill.encode.api.concurrency import Pace, Stopped, sleep
from vecfill.encode.api.dimension import Dimension
from vecfill.encode.api.faults import THROTTLED, Failure, RefusedError, blames, judged, said
from vecfill.encode.api.rate_limits import rate_wait
from vecfill.encode.api.token_counts import bound
from vecfill.encode.api.trials import Trials, Wrong
from vecfill.encode.api.usage import Meter
from vecfill.errors import VecfillError

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError

_log = logging.getLogger(__name__)

BUDGET_POLL_S = 0.05
"""Between two questions to a budget that others hold a part of."""

UNAUTHORIZED = 401


class TooDearError(Exception):
    """What is left of the budget does not reach for all these texts together; for some of them it may."""


class Caller:
    """Asks one model of one API. Lives in one event loop."""

    def __init__(
        self,
        name: str,
        api: ApiOptions,
        *,
        budget: Budget,
        meter: Meter,
        dimensions: int | None,
        dim: int | None,
        stopped: Stopped,
    ) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            name: the model, as the API calls it.
            api: how it is asked.
            budget: of the run.
            meter: counts what is sent.
            dimensions: length of the vectors that the API is asked for; None leaves it to the API.
            dim: that they must have; None takes the first answer's.
            stopped: whether the run is to stop: then nothing more is sent.
        """
        self._what, self._give_up_after = f"model {name} at {api.host}", api.give_up_after
        self._budget, self._meter = budget, meter
        self.dimension = Dimension(self._what, dim, dimensions)
        self._stopped = stopped
        self._pace = Pace(api.max_concurrency, stopped)
        self._client = Client(name, api, dimensions, meter)
        self._ended: tuple[float, VecfillError] | None = None

    async def ask(self, texts: list[str], guess: int, *, splits: bool) -> Answer | None:
        """Gets the texts' vectors; None where the budget does not allow it, or the run is to stop.

        Args:
            texts: of one request.
            guess: tokens that they have, for an answer that does not say.
            splits: the caller asks for a part of them where the budget does not reach for all.

        Raises:
            TooDearError: it is to do so.
            RefusedError: the API takes one of the texts for a fault.
            ConfigError: key, model, address or dimension are not right.
            EncodeError: the API kept failing, or putting off.
        """
        trials = Trials(self._what, self._give_up_after)
        try:
            return await self._asked(texts, guess, trials, splits)
        except VecfillError as error:
            self._ended = time.monotonic(), error
            raise

    async def _asked(self, texts: list[str], guess: int, trials: Trials, splits: bool) -> Answer | None:
        while True:
            async with self._pace.slot() as sent_at:
                self._end_with_others(trials)
                if self._stopped() or not await self._granted(bound(texts), splits):
                    return None
                trials.send()
                outcome = await self._attempt(texts, guess, again=trials.sent > 1)
            if (answer := trials.settled(outcome)) is not None:
                self._pace.succeeded()
                return answer
            assert isinstance(outcome, Failure)  # noqa: S101
            if outcome.overload:
                self._pace.overloaded(sent_at)
            await self._wait(trials, outcome)

    def _end_with_others(self, trials: Trials) -> None:
        """Sends nothing more for what was under way when one request failed for good: the run has ended with it."""
        if self._ended is not None and trials.queued_at <= self._ended[0]:
            raise self._ended[1]

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _granted(self, tokens: int, splits: bool) -> bool:
        """Waits while others that are under way hold what this request may need."""
        until = time.monotonic() + self._give_up_after
        while (verdict := await self._budget.reserve(tokens, splits)) is Verdict.WAIT and time.monotonic() < until:
            if self._stopped():
                return False
            await asyncio.sleep(BUDGET_POLL_S)
        if verdict is Verdict.SPLIT:
            raise TooDearError
        return verdict is Verdict.GRANTED

    async def _wait(self, trials: Trials, failure: Failure) -> None:
        """Waits alone, or, where the API says for how long, together with all other requests."""
        wait = trials.wait(failure)
        _log.info("%s: %s; trying again in %.1f s", self._what, failure.what, wait)
        if failure.wait:
            self._pace.pause(wait)
        else:
            await sleep(wait, self._stopped)

    async def _attempt(self, texts: list[str], guess: int, *, again: bool) -> Answer | Failure:
        """Sends one request; what it has used, or may have used where nobody knows, is booked whatever happens."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        self._meter.send(again=again)
        most = used = bound(texts)
        secret = self._client.key.secret
        try:
            response = await self._client.send(texts)
            answer = read(response.body, len(texts))
            used = most if answer.tokens is None else answer.tokens
            self._meter.add(tokens=guess if answer.tokens is None else answer.tokens)
            return self._checked(answer, response, texts)
        except APIStatusError as error:
            used = 0
            return await self._judged(error, secret)
        except (TimeoutError, APITimeoutError):
            return Failure(what="no whole answer within --request-timeout", overload=True)
        except APIConnectionError as error:
            used = 0 if type(error.__cause__).__name__ == "ConnectError" else most
            return Failure(what=f"the connection broke: {self._client.key.hidden(_cause(error))}")
        except WrongAnswerError as error:
            return Wrong(what=f"the answer is wrong: {self._client.key.hidden(str(error))}")
        finally:
            await self._budget.settle(most, used)

    def _checked(self, answer: Answer, response: Response, texts: list[str]) -> Answer | Failure:
        """Checks what the answer alone does not tell, and heeds what its headers say."""
        self._pace.pause(min(self._give_up_after, rate_wait(response.headers, answer.tokens or bound(texts))))
        self.dimension.check(answer.vectors.shape[1])
        broken = np.flatnonzero(~np.isfinite(answer.vectors).all(axis=1) | ~answer.vectors.any(axis=1))
        if len(broken) == 0:
            self._meter.answered(response.elapsed_s, response.at)
            return answer
        usable = len(broken) < max(SHARED_FAULT_AFTER, len(texts))
        return Wrong(
            what=f"the answer is wrong: {len(broken)} of its {len(texts)} vectors are NaN, infinite or zero",
            answer=answer if usable else None,
        )

    async def _judged(self, error: APIStatusError, secret: str) -> Failure:
        """See ``faults.judged``. Without the chain of causes: the client's own words may quote the key."""
        self._meter.add(throttled=int(error.status_code == THROTTLED))
        if self._client.encoding == "base64" and blames(error, "encoding_format"):
            self._client.encoding = "float"
            return Failure(what="the API takes no base64", wait=0.0)
        if error.status_code == UNAUTHORIZED and await self._client.key.renew(secret):
            return Failure(what="the key has expired", wait=0.0)
        try:
            return judged(error, self._what, self._client.key.hidden(said(error)))
        except (RefusedError, VecfillError) as verdict:
            raise verdict from None


def _cause(error: APIConnectionError) -> str:
    """What the connection died of: the client's own message is always the same."""
    return f"{type(error.__cause__).__name__}: {error.__cause__}".rstrip(": ") if error.__cause__ else str(error)
