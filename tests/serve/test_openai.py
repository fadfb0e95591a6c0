"""The official client reads, streams and draws, and understands what goes wrong."""

from __future__ import annotations

import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image

from serve.serving import Running, as_url, film, png
from unixcxr.sampling.engine import Engine

FORCE = {"force": True}


@pytest.fixture(scope="module")
def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.client.url}/v1", api_key="none", max_retries=0, timeout=30)


def messages(*texts: str, pictures: int = 1, url: str = as_url(png(film(1)))) -> list:
    parts = [{"type": "text", "text": text} for text in texts]
    picture = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [*parts, *[picture] * pictures]}]


def test_chat_writes_the_engines_report(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=messages("Large right effusion?"),
        temperature=1.0,
        seed=6,
        max_completion_tokens=30,
        extra_body=FORCE,
    )
    wanted = engine.write_report(
        film(1), "Large right effusion?", seeds=[6], temperature=1.0, max_new_tokens=30
    )
    choice = answer.choices[0]
    assert choice.message.content == wanted.text
    assert choice.finish_reason == ("length" if len(wanted.token_ids) == 30 else "stop")
    assert answer.usage.completion_tokens == len(wanted.token_ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == "tiny"
    assert answer.report["token_ids"] == list(wanted.token_ids)


def test_without_words_the_models_own_prompt_is_used(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.chat.completions.create(model="unixcxr", messages=messages(), extra_body=FORCE)
    assert answer.report["prompt"] == "Read the film."
    assert answer.choices[0].message.content == engine.write_report(film(1)).text


def test_words_of_all_messages_make_the_prompt(client: openai.OpenAI) -> None:
    chat = [{"role": "system", "content": "Be brief."}, *messages("Read.")]
    answer = client.chat.completions.create(model="tiny", messages=chat, max_tokens=2, extra_body=FORCE)
    assert answer.report["prompt"] == "Be brief.\nRead."


def test_chat_streams(client: openai.OpenAI, engine: Engine) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=messages(),
            stream=True,
            stream_options={"include_usage": True},
            temperature=1.0,
            seed=2,
            max_tokens=30,
            extra_body=FORCE,
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    wanted = engine.write_report(film(1), seeds=[2], temperature=1.0, max_new_tokens=30)
    assert text == wanted.text
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens == len(wanted.token_ids)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_images(client: openai.OpenAI, engine: Engine) -> None:
    answer = client.images.generate(
        model="tiny",
        prompt="Large mass.",
        n=2,
        size="8x4",
        response_format="b64_json",
        extra_body={"seed": 3, "num_steps": 2},
    )
    assert answer.size == "8x4"
    wanted = engine.draw_images(["Large mass."] * 2, seeds=[3, 4], num_steps=2, size_px=(4, 8))
    for datum, picture in zip(answer.data, wanted, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(datum.b64_json))) as shown:
            assert shown.size == (8, 4)
            assert np.abs(np.asarray(shown).astype(int) - np.asarray(picture.image)).max() <= 1
    assert client.images.generate(prompt="Mass", extra_body={"num_steps": 1}).size == "8x8"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "gpt-4o"}, "no such model"),
        ({"messages": messages(pictures=0)}, "found 0 pictures"),
        ({"messages": messages("Read.", pictures=2)}, "found 2 pictures"),
        ({"messages": [*messages(), {"role": "assistant", "content": "Normal."}]}, "one turn"),
        ({"messages": messages(url="http://a/b.png")}, "pattern"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "give one"),
        ({"max_tokens": 3000}, "the context holds"),
        ({"temperature": 0.0, "top_p": 0.5}, "top_p"),
        ({"n": 2}, "n:"),
        ({"logprobs": True}, "logprobs"),
        ({"stream_options": {"include_usage": True}}, "without stream"),
    ],
)
def test_what_cannot_be_done_is_said(client: openai.OpenAI, wrong: dict, said: str) -> None:
    given = {"model": "tiny", "messages": messages(), "extra_body": FORCE, **wrong}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        client.chat.completions.create(**given)
    assert said in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_failures_before_the_first_word_are_a_status_in_a_stream_too(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="tiny", messages=messages(), stream=True)
    assert caught.value.code == "gate_refused"
    broken = messages(url=as_url(b"GIF8"))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="tiny", messages=broken, stream=True)
