"""How reports are rewritten by a language model: which server, how fast, how often, at what price."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from unixcxr.config.base import STRICT, from_mapping
from unixcxr.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]

ENVIRONMENT = {"base_url": "UNIXCXR_LLM_BASE_URL", "model": "UNIXCXR_LLM_MODEL"}
"""Settings that the environment may fill in where the config file is silent."""

KEY_VARIABLE = "UNIXCXR_LLM_API_KEY"
"""The key is read from the environment only: a config is saved beside every result."""


@dataclass(frozen=True, config=STRICT)
class PriceConfig:
    """What a million tokens of one model cost, in the user's currency."""

    input_per_million: NotNegative
    output_per_million: NotNegative


@dataclass(frozen=True, config=STRICT)
class RewritingConfig:
    """One OpenAI-compatible server and how to use it.

    `base_url` ends before "/chat/completions" (usually in "/v1"). An empty `judge_model` judges with `model`.
    `answer_limit_name` is the field that carries `max_answer_tokens` (some servers know only the newer one).
    A limit of 0 is no limit. `max_rewrites` counts the first try; `max_tries` counts the requests behind one
    answer when the server fails; after `give_up_after` answers in a row that never came, no more are asked for.
    """

    base_url: str
    model: str
    judge_model: str = ""
    judge_with_model: bool = True
    temperature: NotNegative = 0.0
    max_answer_tokens: Count = 2048
    answer_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    structured_output: Literal["json_schema", "json_object", "none"] = "json_schema"
    max_rewrites: Count = 3
    concurrency: Count = 4
    requests_per_minute: NotNegative = 0.0
    tokens_per_minute: NotNegative = 0.0
    timeout_s: Positive = 120.0
    max_tries: Count = 6
    backoff_s: Positive = 1.0
    max_wait_s: Positive = 120.0
    give_up_after: Count = 10
    prices: Mapping[str, PriceConfig] = Field(default_factory=dict)

    @property
    def judging_model(self) -> str:
        """Return the name of the model that judges."""
        return self.judge_model or self.model

    @property
    def host(self) -> str:
        """Return the host that report text is sent to."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        """Say whether the server is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _check(self) -> RewritingConfig:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"base_url must look like http://127.0.0.1:8000/v1, found {self.base_url!r}")
        if not self.model:
            raise ValueError("model is empty; name one that the server offers")
        if self.judge_model and not self.judge_with_model:
            raise ValueError("judge_model has no effect with judge_with_model = false; leave one of them out")
        unused = sorted(set(self.prices) - {self.model, self.judging_model})
        if unused:
            raise ValueError(f"prices of {', '.join(unused)} have no effect; the model is {self.model}")
        return self


def read_rewriting(
    values: Mapping[str, Any], environment: Mapping[str, str], *, source: str = "config"
) -> RewritingConfig:
    """Build the settings from a config table, filled up from the environment that the caller passes in.

    Raises ConfigError, naming the variable, when neither says which server and model to use.
    """
    merged = dict(values)
    for name, variable in ENVIRONMENT.items():
        if not merged.get(name):
            if not environment.get(variable):
                raise ConfigError(f"{source}: no {name} for rewriting; set it there or as {variable}")
            merged[name] = environment[variable]
    return from_mapping(RewritingConfig, merged, source=source)


def read_api_key(environment: Mapping[str, str]) -> str:
    """Return the server's key from the environment that the caller passes in; "" where none is needed."""
    return environment.get(KEY_VARIABLE, "")
