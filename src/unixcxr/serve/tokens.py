"""Bearer tokens: made here, kept as hashes, compared in constant time.

A token file has a line `NAME HASH` for each client; empty lines and lines that begin with # are skipped. HASH is
the SHA-256 of the token in hex. A plain fast hash is enough: tokens are 256 random bits, so there is nothing to
guess, unlike passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from unixcxr.errors import ConfigError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s+(?P<hash>[0-9a-f]{64})")


def make_token(name: str) -> tuple[str, str]:
    """Return a new token and the line for the token file. Raises ConfigError for a name that does not fit there."""
    token = secrets.token_urlsafe(32)
    line = f"{name} {_digest(token)}"
    if not _LINE.fullmatch(line):
        raise ConfigError(
            f"token name {name!r}: expected 1 to 64 letters, digits, dots, dashes or underscores"
        )
    return token, line


def read_tokens(path: str | Path) -> dict[str, str]:
    """Read a token file into {name: hash}. Raises ConfigError that names the line, never its content."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"token file {path}: {reason}; expected a text file of NAME HASH lines") from error
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match["name"] in tokens:
            raise ConfigError(
                f"token file {path}, line {number}: expected a new NAME and the HASH of its token; "
                "make lines with `unixcxr serve --make-token NAME`"
            )
        tokens[match["name"]] = match["hash"]
    if not tokens:
        raise ConfigError(
            f"token file {path}: no token in it; make one with `unixcxr serve --make-token NAME`"
        )
    return tokens


def owner_of(token: str, tokens: dict[str, str]) -> str | None:
    """Return whose token it is; every hash is compared, in constant time."""
    digest, owner = _digest(token), None
    for name, known in tokens.items():
        if hmac.compare_digest(digest, known):
            owner = name
    return owner


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
