"""Ask an OpenAI-compatible server, politely: limits, retries, time-outs, counts, and never the same thing twice.

Knows nothing of radiology. Plain HTTP from the standard library: why, docs/decisions/ (a client without a client
library). No proxy, redirect or environment setting can send text anywhere but to the configured server.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from unixcxr.cleaning.llm_cache import AnswerCache, question_key
from unixcxr.config.rewriting import PriceConfig, RewritingConfig
from unixcxr.errors import ConfigError, UnixcxrError

logger = logging.getLogger(__name__)

Message = dict[str, str]
_CHARACTERS_PER_TOKEN = 4
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_READ_BYTES = 1 << 16
_MAX_BODY_BYTES = 16 << 20


class ServerUnavailableError(UnixcxrError):
    """The server gave no usable answer in the allowed tries; a later run may fare better."""


class RequestRefusedError(UnixcxrError):
    """The server understood and refuses this one request (too long, not allowed)."""


class _PassingError(Exception):
    """One try failed in a way that another may not; `wait_s` is what the server asked for."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Answer:
    """What a model wrote, how it ended ("stop", "length"), and what it cost in tokens."""

    content: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    model: str = ""


@dataclass
class Usage:
    """Counts of one run. `tokens` is per model: [input, output]; what the cache answered is not in it."""

    calls: int = 0
    retries: int = 0
    cached: int = 0
    uncounted: int = 0
    tokens: dict[str, list[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, answer: Answer) -> None:
        """Count one answer that was paid for."""
        with self.lock:
            self.calls += 1
            self.uncounted += not (answer.prompt_tokens or answer.completion_tokens)
            counts = self.tokens.setdefault(answer.model, [0, 0])
            counts[0] += answer.prompt_tokens
            counts[1] += answer.completion_tokens

    def count(self, name: str) -> None:
        """Add one to `retries` or `cached`."""
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def cost(self, prices: Mapping[str, PriceConfig]) -> float | None:
        """Return the cost in the currency of the price table; None when a used model has no price there."""
        if not self.tokens.keys() <= prices.keys():
            return None
        return sum(
            (given * prices[model].input_per_million + written * prices[model].output_per_million) / 1e6
            for model, (given, written) in self.tokens.items()
        )


def usage_of_cache(cache: AnswerCache) -> Usage:
    """Count every answer that was ever paid for and kept in a cache."""
    usage = Usage()
    for answer in cache.answers():
        usage.add(Answer(**answer))
    return usage


class Pace:
    """Spread amounts evenly over time: at most `per_minute` a minute, shared by all threads; 0 is no limit."""

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def take(self, amount: float = 1.0) -> None:
        """Wait until `amount` may be spent."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + amount * self._seconds_each
        if start > now:
            self._sleep(start - now)

    def settle(self, difference: float) -> None:
        """Correct an estimate: positive when more was spent than was taken."""
        with self._lock:
            self._free_at += difference * self._seconds_each

    def hold(self, seconds: float) -> None:
        """Let nobody go on for a while."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)


class ChatClient:
    """Answers to chat messages: from the cache, from another thread's same question, or from the server.

    Once `stopping` is set nothing more is sent and no wait goes on. With `announce` a warning names a server that
    is not this machine, once, before the first request.

    Raises ConfigError when the server refuses the key, the model or the address; ServerUnavailableError when it
    stays away; RequestRefusedError when it refuses one request.
    """

    def __init__(
        self,
        settings: RewritingConfig,
        cache: AnswerCache,
        api_key: str,
        stopping: threading.Event,
        announce: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.cache, self.usage = settings, cache, Usage()
        self._api_key, self._stopping = api_key, stopping
        self._requests = Pace(settings.requests_per_minute, clock, stopping.wait)
        self._tokens = Pace(settings.tokens_per_minute, clock, stopping.wait)
        self._jitter = random.Random(0)
        self._pending: dict[str, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._failures_in_a_row = 0
        self._unsaid = destination_notice(settings) if announce else ""

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any], model: str, version: str) -> Answer:
        """Return the model's answer to the messages; `version` names the prompts and becomes part of the key."""
        body = self._body(messages, schema, model)
        key = question_key({"version": version, **body})
        with self._lock:
            pending = self._pending.get(key)
            mine: Future[Answer] = Future()
            if pending is None:
                self._pending[key] = mine
        if pending is not None:
            answer = pending.result()
            self.usage.count("cached")
            return answer
        try:
            answer = self._answer(key, body)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._pending[key]

    def _body(self, messages: Sequence[Message], schema: Mapping[str, Any], model: str) -> dict[str, Any]:
        settings = self.settings
        body: dict[str, Any] = {
            "model": model,
            "messages": list(messages),
            "temperature": settings.temperature,
            settings.answer_limit_name: settings.max_answer_tokens,
        }
        if settings.structured_output == "json_schema":
            described = {"name": schema.get("title", "answer"), "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        elif settings.structured_output == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _answer(self, key: str, body: dict[str, Any]) -> Answer:
        kept = self.cache.get(key)
        if kept is not None:
            self.usage.count("cached")
            return Answer(**kept)
        if self._failures_in_a_row >= self.settings.give_up_after:
            raise ServerUnavailableError(
                f"{self.settings.host} was given up after {self._failures_in_a_row} failed answers in a row; "
                "run again when it is back"
            )
        answer = replace(self._ask_until_answered(body), model=body["model"])
        self.cache.put(key, asdict(answer))
        self.usage.add(answer)
        return answer

    def _ask_until_answered(self, body: dict[str, Any]) -> Answer:
        settings, data = self.settings, json.dumps(body).encode()
        estimate = 2 * sum(len(message["content"]) for message in body["messages"]) / _CHARACTERS_PER_TOKEN
        self._announce()
        failure = ""
        for attempt in range(settings.max_tries):
            if attempt:
                self.usage.count("retries")
            self._requests.take()
            self._tokens.take(estimate)
            if self._stopping.is_set():
                raise ServerUnavailableError("the run was stopped before this answer")
            try:
                answer = _read_answer(self._post(data))
            except _PassingError as error:
                failure = str(error)
                if attempt + 1 < settings.max_tries and not self._wait(attempt, error):
                    break
                continue
            self._tokens.settle(answer.prompt_tokens + answer.completion_tokens - estimate)
            self._failures_in_a_row = 0
            return answer
        with self._lock:
            self._failures_in_a_row += 1
        raise ServerUnavailableError(f"{settings.host}: {failure}; tried {attempt + 1} times")

    def _wait(self, attempt: int, error: _PassingError) -> bool:
        """Back off, twice as long each time or as long as the server asks; False when it asks for too long."""
        settings = self.settings
        backoff = min(settings.backoff_s * 2**attempt, settings.max_wait_s)
        wait_s = backoff * self._jitter.uniform(0.75, 1.25) if error.wait_s is None else error.wait_s
        if wait_s > settings.max_wait_s * 1.25:
            return False
        logger.info("%s: %s; next try in %.1f s", settings.host, error, wait_s)
        if error.wait_s is not None:
            self._requests.hold(wait_s)
        return not self._stopping.wait(wait_s)

    def _announce(self) -> None:
        with self._lock:
            notice, self._unsaid = self._unsaid, ""
        if notice:
            logger.warning("%s", notice)

    def _post(self, data: bytes) -> bytes:
        """Send one request; return the body of a good answer, or raise what its failure means."""
        parts = urlsplit(self.settings.base_url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        timeout_s = self.settings.timeout_s
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            connection.request("POST", parts.path.rstrip("/") + "/chat/completions", data, headers)
            response = connection.getresponse()
            content = _read_body(response, time.monotonic() + timeout_s)
        except TimeoutError:
            raise _PassingError(f"no answer within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(f"connection failed ({type(error).__name__})") from None
        finally:
            connection.close()
        self._check_status(response, content)
        return content

    def _check_status(self, response: http.client.HTTPResponse, content: bytes) -> None:
        status, host = response.status, self.settings.host
        if status == 200:
            return
        if status in _PASSING_STATUS:
            raise _PassingError(f"status {status}", _retry_after(response.headers.get("Retry-After")))
        if status in (401, 403):
            raise ConfigError(f"{host} refuses the key (status {status}); set UNIXCXR_LLM_API_KEY")
        if status == 404 or 300 <= status < 400:
            model = f"no model {self.settings.model!r} or no chat completions at {self.settings.base_url}"
            raise ConfigError(f"{host}: {model} (status {status}); check base_url and model")
        raise RequestRefusedError(f"{host} refuses the request (status {status}): {_error_message(content)}")


def destination_notice(settings: RewritingConfig) -> str:
    """Return one line that says where report text goes; "" when it stays on this machine."""
    if settings.is_loopback:
        return ""
    bare = "" if settings.base_url.startswith("https:") else ", without encryption"
    return (
        f"report text is sent to {settings.host}, which is not this machine{bare}; "
        "see docs/rewriting.md on what may leave it"
    )


def _read_body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Read a body that must be whole, in time and of a sane size."""
    length = response.length
    content = bytearray()
    while chunk := response.read1(_READ_BYTES):
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(content) > _MAX_BODY_BYTES:
            raise _PassingError(f"an answer of more than {_MAX_BODY_BYTES >> 20} MiB")
    if length is not None and len(content) < length:
        raise _PassingError("the answer was cut short")
    return bytes(content)


def _read_answer(content: bytes) -> Answer:
    """Read a chat completion. Raises _PassingError when it is not one."""
    try:
        reply = json.loads(content)
        choice = reply["choices"][0]
        text = choice["message"]["content"]
        usage = reply.get("usage") or {}
        tokens = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _PassingError("the answer is no chat completion") from None
    if not isinstance(text, str):
        raise _PassingError("the answer holds no text")
    return Answer(text, str(choice.get("finish_reason") or "stop"), *tokens)


def _retry_after(value: str | None) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(moment.timestamp() - time.time(), 0.0)


def _error_message(content: bytes) -> str:
    """Return the server's own words, cut short."""
    try:
        message = json.loads(content)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = content.decode("utf-8", "replace")
    return " ".join(str(message).split())[:200]
