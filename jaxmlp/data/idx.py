"""A folder of IDX files, the format of MNIST and of the sets made in its image.

A header says how many bytes follow. Memory is taken only for bytes that do follow, and for one byte more than the
header says at most: neither a wrong header nor a small archive that expands without end can exhaust it.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data._quoting import plain
from jaxmlp.data.source import Request, Source, encode_targets

_TRAIN, _TEST = "train", "t10k"
_IMAGES, _LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
_UNSIGNED_BYTE = 0x08
_BLOCK = 1 << 20


class _Part(NamedTuple):
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None

    @property
    def x(self) -> NDArray[np.uint8]:
        return self.images.reshape(len(self.images), -1)


def read_idx(name: str, request: Request) -> Source:
    """Read `train-images-idx3-ubyte` and its three companions, each plain or with `.gz`, from the folder `name`.

    The test pair (`t10k-...`) may be missing. If the training pair is missing, the test pair becomes x and t, so that
    a folder with only a test pair can be evaluated.
    """
    folder = Path(name)
    parts = [part for stem in (_TRAIN, _TEST) if (part := _read_part(folder, stem, request.labelled)) is not None]
    if not parts:
        raise FileNotFoundError(f"{plain(name)}: no {_IMAGES.format(_TRAIN)} in this folder, plain or with .gz")
    sizes = [part.images.shape[1:] for part in parts]
    if sizes[0] != sizes[-1]:
        raise ValueError(f"{plain(name)}: training images are {sizes[0]} pixels, test images {sizes[1]}")
    targets, class_names = _encode([part.labels for part in parts], request.task)
    has_test = len(parts) == 2
    return Source(
        name=name,
        x=parts[0].x,
        t=targets[0],
        x_test=parts[1].x if has_test else None,
        t_test=targets[1] if has_test else None,
        class_names=class_names,
        image_shape=(sizes[0][0], sizes[0][1]),
    )


def _encode(
    labels: list[NDArray[np.uint8] | None], task: str | None
) -> tuple[list[NDArray[Any] | None], tuple[str, ...] | None]:
    known = [part for part in labels if part is not None]
    if task == "values":
        return [None if part is None else encode_targets(part, task, str).t for part in labels], None
    # The name of a class is its number, even of a class without examples: every subset gets the same names.
    names = tuple(str(label) for label in range(1 + max(int(part.max()) for part in known))) if known else None
    return [None if part is None else part.astype(np.int64) for part in labels], names


def _read_part(folder: Path, stem: str, labelled: bool) -> _Part | None:
    image_file, label_file = (_find(folder, name.format(stem)) for name in (_IMAGES, _LABELS))
    if image_file is None and label_file is None:
        return None
    if image_file is None or (label_file is None and labelled):
        missing = (_IMAGES if image_file is None else _LABELS).format(stem)
        raise FileNotFoundError(f"{plain(folder)}: no {missing} in this folder, plain or with .gz")
    images = _read_file(image_file, rank=3)
    if label_file is None:
        return _Part(images, None)
    labels = _read_file(label_file, rank=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{plain(folder)}: {len(images)} images in {image_file.name} and {len(labels)} labels in "
            f"{label_file.name}, expected equally many"
        )
    return _Part(images, labels)


def _find(folder: Path, name: str) -> Path | None:
    """Return the path of a file, plain or with `.gz`, whatever the case of its letters."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return files.get(name, files.get(f"{name}.gz"))


def _read_file(path: Path, rank: int) -> NDArray[np.uint8]:
    open_file: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            return _read_array(file, path, rank)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{plain(path)}: damaged or truncated gzip: {plain(error)}") from error


def _read_array(file: IO[bytes], path: Path, rank: int) -> NDArray[np.uint8]:
    layout = struct.Struct(f">I{rank}I")
    header = file.read(layout.size)
    if len(header) < layout.size:
        raise ValueError(f"{plain(path)}: {len(header)} bytes, expected an IDX header of {layout.size}")
    magic, *shape = layout.unpack(header)
    expected = _UNSIGNED_BYTE << 8 | rank
    if magic != expected:
        raise ValueError(f"{plain(path)}: magic number {magic:#010x}, expected {expected:#010x} (unsigned bytes)")
    size = math.prod(shape)
    if size == 0:
        raise ValueError(f"{plain(path)}: header says shape {tuple(shape)}, expected no dimension of 0")
    data = _read_at_most(file, size + 1)
    if len(data) != size:
        follow = f"{len(data)} follow" if len(data) < size else "more follow"
        raise ValueError(f"{plain(path)}: header says {tuple(shape)}, that is {size} bytes, but {follow}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_at_most(file: IO[bytes], limit: int) -> bytearray:
    """Read up to `limit` bytes, in blocks: `file.read(limit)` may reserve memory for all of them at once."""
    data = bytearray()
    while len(data) < limit and (block := file.read(min(_BLOCK, limit - len(data)))):
        data += block
    return data
