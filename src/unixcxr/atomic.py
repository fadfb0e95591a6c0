"""Files that appear whole or not at all, and one error for whatever stops them."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unixcxr.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some of your quota or write elsewhere",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
    errno.EISDIR: "name a file, not a folder",
    errno.EINVAL: "name a file, or leave it out for standard output",
    errno.EEXIST: "a part of this path is a file; name another folder",
    errno.ENOTDIR: "a part of this path is a file; name another folder",
}


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it there when the block ends without an error.

    Missing folders are made. On any error the temporary file goes away and what stood at `target` stays.

    Raises OutputError when the place cannot be written to or is full.
    """
    with _partial_beside(Path(target)) as partial:
        yield partial
        partial.replace(target)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file atomically, as UTF-8. Raises OutputError."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def require_writable(target: str | os.PathLike[str]) -> None:
    """Raise OutputError now if `target` could not be written later; leave nothing behind."""
    with _partial_beside(Path(target)):
        pass


@contextmanager
def _partial_beside(target: Path) -> Iterator[Path]:
    """Make an empty file next to `target` for the length of the block, and name any failure as an OutputError.

    Folders that had to be made go away again unless `target` is there in the end.
    """
    partial: Path | None = None
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():  # replacing /dev/stdout would destroy it
            raise OSError(errno.EINVAL, "it is a device, not a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.partial")
        partial.touch(exist_ok=False)
        yield partial
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "check the place and try again")
        raise OutputError(f"cannot write {target}: {reason}; {advice}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if not target.exists():
            with suppress(OSError):  # a folder that someone else has filled meanwhile
                for parent in made:
                    parent.rmdir()
