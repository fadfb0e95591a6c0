"""Text <-> token ids through a model's own `tokenizer.json`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from unixcxr.errors import TokenizerError
from unixcxr.runtime import find_model_dir

PROBE = "No focal consolidation; 3.5 cm mass,\n\nleft base (T6-T7)."
"""Text that a tokenizer must give back unchanged: spaces, newlines, digits and signs get lost first."""


class Tokenizer:
    """Encode and decode plain text; special tokens are added by `data.collate`, never here.

    The `tokenizers` library reads the file directly: wrappers of the Janus tokenizer drop spaces or the start token.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every defect of the file
            raise TokenizerError(f"{path}: not a tokenizer file ({error})") from None
        restored = self.decode(self.encode(PROBE))
        if restored != PROBE:
            raise TokenizerError(
                f"{path}: loses characters ({PROBE!r} comes back as {restored!r}); use the original file"
            )

    @property
    def vocab_size(self) -> int:
        """Ids, special ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of plain text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Load the tokenizer of a model directory ("embedded", a path, or a pulled hub id)."""
    file: Path = find_model_dir(path) / "tokenizer.json"
    if not file.exists():
        raise TokenizerError(f"{file}: missing; a model directory holds a tokenizer.json")
    return Tokenizer(file)
