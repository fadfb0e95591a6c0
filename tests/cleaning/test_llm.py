"""The client against a real server that misbehaves: retries, limits, time-outs, counts, one question asked once."""

from __future__ import annotations

import logging
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from cleaning.llm_server import ChatServer, serve_chat
from unixcxr.cleaning.llm import (
    Answer,
    ChatClient,
    Pace,
    RequestRefusedError,
    ServerUnavailableError,
    Usage,
    _retry_after,
    usage_of_cache,
)
from unixcxr.cleaning.llm_cache import AnswerCache
from unixcxr.cleaning.llm_prompts import REWRITE_SCHEMA, load_prompts
from unixcxr.config.rewriting import PriceConfig, RewritingConfig, read_api_key, read_rewriting
from unixcxr.errors import ConfigError

REPORT = "FINDINGS: Clear lungs."


def client_of(server: ChatServer, folder: Path, api_key: str = "", **settings: Any) -> ChatClient:
    quick = {"timeout_s": 10.0, "backoff_s": 0.01, "max_wait_s": 3.0, "max_tries": 3, **settings}
    config = RewritingConfig(base_url=server.base_url, model="m", **quick)
    cache = AnswerCache(folder / "answers.sqlite")
    return ChatClient(config, cache, api_key, threading.Event())


def ask(client: ChatClient, report: str = REPORT) -> Answer:
    return client.ask(load_prompts().rewriting(report), REWRITE_SCHEMA, "m", "v1")


def known(*reports: str) -> dict[str, tuple[str, str]]:
    return dict.fromkeys((REPORT, *reports), ("Clear lungs.", ""))


LATE = ["slow", "trickle"]
PASSING = [*LATE, "429", "500", "not json", "no choices", "cut body", "drop"]


@pytest.mark.parametrize("action", PASSING)
def test_a_passing_failure_is_tried_again(action: str, tmp_path: Path) -> None:
    with serve_chat(answers=known(), script=[action]) as server:
        client = client_of(server, tmp_path, timeout_s=0.6 if action in LATE else 10.0)
        assert ask(client).content == '{"findings": "Clear lungs.", "impression": ""}'
        assert len(server.requests) == 2
        assert (client.usage.calls, client.usage.retries) == (1, 1)


@pytest.mark.parametrize("action", PASSING)
def test_tries_are_bounded(action: str, tmp_path: Path) -> None:
    with serve_chat(answers=known(), script=[action] * 9) as server:
        client = client_of(server, tmp_path, timeout_s=0.3 if action in LATE else 10.0)
        with pytest.raises(ServerUnavailableError, match="tried 3 times"):
            ask(client)
        assert len(server.requests) == 3
        assert len(client.cache) == 0


def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    with serve_chat() as server:
        pass
    with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1: connection failed"):
        ask(client_of(server, tmp_path))


def test_a_server_that_stays_away_is_given_up(tmp_path: Path) -> None:
    with serve_chat(answers=known("FINDINGS: A."), script=["500"] * 4) as server:
        client = client_of(server, tmp_path, max_tries=2, give_up_after=2)
        for _ in range(2):
            with pytest.raises(ServerUnavailableError, match="status 500"):
                ask(client)
        with pytest.raises(ServerUnavailableError, match="given up after 2"):
            ask(client, "FINDINGS: A.")
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        ("401", ConfigError, "refuses the key.*UNIXCXR_LLM_API_KEY"),
        ("404", ConfigError, "no model 'm'.*check base_url"),
        ("redirect", ConfigError, "status 307"),
        ("400", RequestRefusedError, "you asked for 400"),
    ],
)
def test_a_lasting_failure_is_not_tried_again(
    action: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with serve_chat(answers=known(), script=[action]) as server:
        with pytest.raises(error, match=words):
            ask(client_of(server, tmp_path))
        assert len(server.requests) == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date: bool, tmp_path: Path) -> None:
    wait = formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
    with serve_chat(answers=known(), script=["429"], retry_after=wait) as server:
        ask(client_of(server, tmp_path))
        assert server.times[1] - server.times[0] >= (0.9 if as_date else 0.6)


def test_retry_after_holds_the_other_threads_too(tmp_path: Path) -> None:
    with serve_chat(answers=known("FINDINGS: A."), script=["429"], retry_after="0.5") as server:
        client = client_of(server, tmp_path)
        first = threading.Thread(target=ask, args=(client,))
        first.start()
        while not client.usage.retries and not (server.times and time.monotonic() > server.times[0] + 0.2):
            time.sleep(0.01)
        ask(client, "FINDINGS: A.")
        first.join()
        assert min(server.times[1:]) - server.times[0] >= 0.5


def test_a_wait_longer_than_allowed_is_not_waited(tmp_path: Path) -> None:
    with serve_chat(answers=known(), script=["429"] * 3, retry_after="3600") as server:
        with pytest.raises(ServerUnavailableError, match="status 429; tried 1 times"):
            ask(client_of(server, tmp_path))
        assert len(server.requests) == 1


def test_retry_after_headers() -> None:
    assert _retry_after(None) is None
    assert _retry_after("7") == 7.0
    assert _retry_after("-3") == 0.0
    assert _retry_after("soon") is None
    assert _retry_after(formatdate(time.time() + 90, usegmt=True)) == pytest.approx(90, abs=2)


def test_backoff_doubles(tmp_path: Path) -> None:
    with serve_chat(answers=known(), script=["500"] * 3) as server:
        ask(client_of(server, tmp_path, backoff_s=0.1, max_tries=4))
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    for gap, expected in zip(gaps, (0.1, 0.2, 0.4), strict=True):
        assert gap >= 0.75 * expected


def test_an_answer_is_asked_for_once(tmp_path: Path) -> None:
    with serve_chat(answers=known()) as server:
        client = client_of(server, tmp_path)
        answer = ask(client)
        assert ask(client) == answer
        again = client_of(server, tmp_path)
        assert ask(again) == answer
        assert len(server.requests) == 1
        assert (client.usage.calls, client.usage.cached) == (1, 1)
        assert (again.usage.calls, again.usage.cached, again.usage.tokens) == (0, 1, {})


def test_threads_with_the_same_question_share_one_call(tmp_path: Path) -> None:
    with serve_chat(answers=known(), delay_s=0.2) as server:
        client = client_of(server, tmp_path)
        answers: list[Answer] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(client))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 1
        assert len(answers) == 6
        assert len(server.requests) == 1


def test_what_is_sent(tmp_path: Path) -> None:
    with serve_chat(answers=known()) as server:
        ask(client_of(server, tmp_path, api_key="secret"))
        (body,), (headers,) = server.requests, server.headers
    assert headers["Authorization"] == "Bearer secret"
    assert body["response_format"]["json_schema"]["schema"] == REWRITE_SCHEMA
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 2048)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


@pytest.mark.parametrize(("kind", "sent"), [("json_object", {"type": "json_object"}), ("none", None)])
def test_servers_without_schemas(kind: str, sent: object, tmp_path: Path) -> None:
    with serve_chat(answers=known()) as server:
        ask(client_of(server, tmp_path, structured_output=kind))
        assert server.requests[0].get("response_format") == sent


def test_the_answer_limit_has_the_asked_name(tmp_path: Path) -> None:
    with serve_chat(answers=known()) as server:
        ask(client_of(server, tmp_path, answer_limit_name="max_completion_tokens", max_answer_tokens=7))
        (body,) = server.requests
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body


def test_environment_proxies_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve_chat(answers=known()) as server:
        ask(client_of(server, tmp_path))
        assert len(server.requests) == 1


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_pace_spreads_requests() -> None:
    time_ = Time()
    pace = Pace(120, time_.clock, time_.sleep)
    starts = []
    for _ in range(5):
        pace.take()
        starts.append(time_.now)
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])


def test_pace_settles_estimates_and_holds() -> None:
    time_ = Time()
    pace = Pace(6000, time_.clock, time_.sleep)  # 100 tokens a second
    pace.take(100)
    pace.settle(+200)  # it was 300
    pace.take(100)
    assert time_.now == pytest.approx(3.0)
    pace.settle(-50)
    pace.take(100)
    assert time_.now == pytest.approx(3.5)
    pace.hold(10)
    pace.take()
    assert time_.now == pytest.approx(13.5)


def test_no_limit_never_sleeps() -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError

    pace = Pace(0, Time().clock, sleep)
    for _ in range(1000):
        pace.take()


def test_requests_per_minute_hold_on_the_wire(tmp_path: Path) -> None:
    reports = [f"FINDINGS: {word}." for word in ("A", "B", "C", "D", "E", "F")]
    with serve_chat(answers=known(*reports)) as server:
        began = time.monotonic()
        client = client_of(server, tmp_path, requests_per_minute=600)
        threads = [threading.Thread(target=ask, args=(client, report)) for report in reports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(server.times) - began >= 5 * 0.1


def test_tokens_per_minute_hold_on_the_wire(tmp_path: Path) -> None:
    """The server counts 1,200 tokens an answer: at 120,000 a minute two answers take 0.6 s each."""
    reports = [f"FINDINGS: {word}." for word in ("A", "B", "C")]
    with serve_chat(answers=known(*reports)) as server:
        began = time.monotonic()
        client = client_of(server, tmp_path, tokens_per_minute=120_000)
        for report in reports:
            ask(client, report)
        assert server.times[2] - began >= 1.2


def test_cost_by_hand() -> None:
    usage = Usage()
    usage.add(Answer("", "stop", 1000, 200, "big"))
    usage.add(Answer("", "stop", 500, 100, "big"))
    usage.add(Answer("", "stop", 2000, 50, "small"))
    big, small = PriceConfig(2.5, 10.0), PriceConfig(0.1, 0.4)
    # big: 1,500 in at 2.5 and 300 out at 10 a million; small: 2,000 in at 0.1 and 50 out at 0.4
    by_hand = (1500 * 2.5 + 300 * 10.0 + 2000 * 0.1 + 50 * 0.4) / 1_000_000
    assert usage.cost({"big": big, "small": small}) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.00697)
    assert usage.cost({"big": big}) is None
    assert Usage().cost({}) == 0


def test_a_cache_tells_what_all_runs_paid(tmp_path: Path) -> None:
    with serve_chat(answers=known("FINDINGS: A.")) as server:
        ask(client_of(server, tmp_path))
        later = client_of(server, tmp_path)
        ask(later)
        ask(later, "FINDINGS: A.")
    assert later.usage.tokens == {"m": [1000, 200]}
    whole = usage_of_cache(later.cache)
    assert (whole.calls, whole.tokens) == (2, {"m": [2000, 400]})


def test_a_server_that_counts_no_tokens_is_noticed() -> None:
    usage = Usage()
    usage.add(Answer("text", "stop", 0, 0, "m"))
    assert usage.uncounted == 1


def test_stopping_ends_waits_and_sends_nothing(tmp_path: Path) -> None:
    with serve_chat(answers=known(), script=["429"], retry_after="2") as server:
        client = client_of(server, tmp_path)
        threading.Timer(0.2, client._stopping.set).start()
        began = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            ask(client)
        assert time.monotonic() - began < 1.5
        assert len(server.requests) == 1


def test_text_to_another_machine_is_announced_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RewritingConfig(base_url="http://llm.example/v1", model="m", max_tries=1)
    client = ChatClient(config, AnswerCache(tmp_path / "a.sqlite"), "", threading.Event())
    sent = b'{"choices": [{"message": {"content": "x"}}]}'
    monkeypatch.setattr(client, "_post", lambda data: sent)
    with caplog.at_level(logging.WARNING):
        ask(client)
        ask(client, "FINDINGS: A.")
        muted = ChatClient(config, AnswerCache(":memory:"), "", threading.Event(), announce=False)
        monkeypatch.setattr(muted, "_post", lambda data: sent)
        ask(muted)
    (record,) = caplog.records
    assert "sent to llm.example, which is not this machine, without encryption" in record.message
    assert "\n" not in record.message


def test_loopback_needs_no_announcement_and_logs_no_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), serve_chat(answers=known(), script=["500", "drop"]) as server:
        ask(client_of(server, tmp_path))
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert "lungs" not in caplog.text.lower()


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1/v1", True),
        ("http://127.0.0.9/v1", True),
        ("http://[::1]:80/v1", True),
        ("https://api.example.com/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.com/v1", False),
    ],
)
def test_loopback(url: str, loopback: bool) -> None:
    assert RewritingConfig(base_url=url, model="m").is_loopback is loopback


def test_settings_come_from_config_then_environment() -> None:
    environment = {
        "UNIXCXR_LLM_BASE_URL": "http://127.0.0.1:1/v1",
        "UNIXCXR_LLM_MODEL": "e",
        "UNIXCXR_LLM_API_KEY": "k",
    }
    assert read_rewriting({"model": "c"}, environment).model == "c"
    assert read_rewriting({}, environment).model == "e"
    assert read_api_key(environment) == "k"
    assert read_api_key({}) == ""
    with pytest.raises(ConfigError, match=r"no base_url.*UNIXCXR_LLM_BASE_URL"):
        read_rewriting({"model": "c"}, {})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"base_url": "127.0.0.1:8000"}, "must look like"),
        ({"base_url": "http://name:key@host/v1"}, "must look like"),
        ({"max_rewrites": 0}, "max_rewrites"),
        ({"timeout": 3}, "did you mean 'timeout_s'"),
        ({"prices": {"other": {"input_per_million": 1, "output_per_million": 1}}}, "prices of other"),
        ({"judge_with_model": False, "judge_model": "j"}, "no effect"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_rewriting({"base_url": "http://127.0.0.1/v1", "model": "m", **values}, {})
