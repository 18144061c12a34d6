"""Reading a file whose header says how long it is, and may lie."""

from typing import IO

_BLOCK = 1 << 20


def read_at_most(file: IO[bytes], limit: int) -> bytearray:
    """Read up to `limit` bytes, taking memory only for those that are there.

    In blocks, because `file.read(limit)` may reserve the whole limit at once, whatever the file holds.
    """
    data = bytearray()
    while len(data) < limit and (block := file.read(min(_BLOCK, limit - len(data)))):
        data += block
    return data
