"""Messages between the web process and the model's: JSON with bytes in it, length first. No pickles.

A frame is a u64 length, a u32 header length, the header (JSON: the message with each bytes value replaced by its
number, and their sizes), then the bytes one after another. All numbers are little endian.
"""

from __future__ import annotations

import json
import struct
from typing import Any

Message = dict[str, Any]

LENGTH = struct.Struct("<Q")
_HEADER = struct.Struct("<I")
_BLOB = "$bytes"
MAX_FRAME_BYTES = 1 << 30
"""A longer frame means that the other side has gone mad."""


def pack(message: Message) -> bytes:
    """Return the frame of a message; its values are what JSON knows, and bytes."""
    blobs: list[bytes] = []

    def keep(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            blobs.append(bytes(value))
            return {_BLOB: len(blobs) - 1}
        if isinstance(value, dict):
            return {key: keep(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [keep(inner) for inner in value]
        return value

    kept = keep(message)
    header = json.dumps({"message": kept, "sizes": [len(blob) for blob in blobs]}).encode()
    body = b"".join([_HEADER.pack(len(header)), header, *blobs])
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Message:
    """Return the message of a frame, its length already taken off."""
    (size,) = _HEADER.unpack_from(body)
    start = _HEADER.size + size
    header = json.loads(body[_HEADER.size : start])
    blobs: list[bytes] = []
    for length in header["sizes"]:
        blobs.append(body[start : start + length])
        start += length

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {_BLOB}:
                return blobs[value[_BLOB]]
            return {key: restore(inner) for key, inner in value.items()}
        return [restore(inner) for inner in value] if isinstance(value, list) else value

    message: Message = restore(header["message"])
    return message
