"""A byte-level tokenizer loses nothing; one that does, and one that is none, are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from model import tiny
from unixcxr.data.tokenizer import Tokenizer, load_tokenizer
from unixcxr.errors import ModelError, TokenizerError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.train_tokenizer(tmp_path_factory.mktemp("model") / "tokenizer.json")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_comes_back(path: Path, text: str) -> None:
    tokenizer = Tokenizer(path)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_counted_but_never_added_nor_shown(path: Path, tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer.from_file(str(path))
    inner.add_special_tokens(["<begin>"])
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", inner.token_to_id("<begin>"))]
    )
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    begin = inner.token_to_id("<begin>")
    assert inner.encode("mass").ids[0] == begin
    assert tokenizer.encode("mass") == Tokenizer(path).encode("mass")
    assert tokenizer.decode((begin, *tokenizer.encode("mass"))) == "mass"
    assert tokenizer.vocab_size == Tokenizer(path).vocab_size + 1 == begin + 1


def test_ids_beyond_the_vocabulary_write_nothing(path: Path) -> None:
    """A model's embedding may be larger than its tokenizer."""
    tokenizer = Tokenizer(path)
    assert tokenizer.decode((*tokenizer.encode("a mass"), tokenizer.vocab_size + 5)) == "a mass"


def test_a_tokenizer_that_loses_characters_is_refused(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"mass": 0, "?": 1}, unk_token="?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="loses characters"):
        load_tokenizer(tmp_path)


def test_files_that_are_none(tmp_path: Path, path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: missing"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelError):
        load_tokenizer(tmp_path / "nowhere")
    for content in ("", "{}", json.dumps({"model": {"type": "BPE"}}), path.read_text()[:-50]):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(TokenizerError, match="not a tokenizer file") as caught:
            load_tokenizer(tmp_path)
        assert "\n" not in str(caught.value)
