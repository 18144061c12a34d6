"""A folder of IDX files, the format of MNIST and of the sets modelled on it.

A header says how many bytes follow. Memory is taken only for bytes that are read, at most one more than the header
says: neither a wrong header nor a small archive that expands without end can exhaust it.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data._quoting import listed, plain
from jaxmlp.data.source import Request, Source, encode_targets

_IMAGES, _LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
# EMNIST writes emnist-letters-test-images-idx3-ubyte, and others train-images.idx3-ubyte.
_FILE = re.compile(r"(|.*-)(train|t10k|test)-(images|labels)[-.](idx[13]-ubyte)(?:\.gz)?")
_UNSIGNED_BYTE = 0x08
_BLOCK = 1 << 20

Bytes: TypeAlias = NDArray[np.uint8]


def read_idx(name: str, request: Request) -> Source:
    """Read `train-images-idx3-ubyte` and its three companions, each plain or with `.gz`, from the folder `name`.

    `train-images.idx3-ubyte`, and names with a prefix as in `emnist-letters-train-images-idx3-ubyte`, are known too.
    The test pair (`t10k-...` or `test-...`) may be missing. If the training pair is missing, the test pair becomes x
    and t, so that a folder with only a test pair can be evaluated.
    """
    folder = Path(name)
    files = _find_files(folder)
    found = [_read_part(folder, files, stem, request.labelled) for stem in ("train", "t10k")]
    parts = [part for part in found if part is not None]
    if not parts:
        raise FileNotFoundError(f"{plain(name)}: no {_IMAGES.format('train')} in this folder, plain or with .gz")
    images, labels = zip(*parts, strict=True)
    shape, other = images[0].shape[1:], images[-1].shape[1:]
    if shape != other:
        raise ValueError(f"{plain(name)}: training images are {shape} pixels, test images {other}")
    rows = [part.reshape(len(part), -1) for part in images]
    targets, class_names = _encode(labels, request.task)
    (x, x_test), (t, t_test) = ([*pair, None][:2] for pair in (rows, targets))  # None if there is only one pair
    return Source(name, x, t, x_test, t_test, class_names=class_names, image_shape=shape)


def _encode(
    labels: tuple[Bytes | None, ...], task: str | None
) -> tuple[list[NDArray[Any] | None], tuple[str, ...] | None]:
    known = [part for part in labels if part is not None]
    if task == "values":
        return [None if part is None else encode_targets(part, task, str).t for part in labels], None
    # Classes are named by number, also those without examples, so every subset gets the same names.
    names = tuple(str(label) for label in range(1 + max(int(part.max()) for part in known))) if known else None
    return [None if part is None else part.astype(np.int64) for part in labels], names


def _read_part(folder: Path, files: Mapping[str, Path], stem: str, labelled: bool) -> tuple[Bytes, Bytes | None] | None:
    image_file, label_file = (files.get(name.format(stem)) for name in (_IMAGES, _LABELS))
    if image_file is None and label_file is None:
        return None
    if image_file is None or (label_file is None and labelled):
        missing = (_IMAGES if image_file is None else _LABELS).format(stem)
        raise FileNotFoundError(f"{plain(folder)}: no {missing} in this folder, plain or with .gz")
    images = _read_file(image_file, rank=3)
    labels = None if label_file is None else _read_file(label_file, rank=1)
    if label_file is not None and labels is not None and len(images) != len(labels):
        found = f"{len(images)} images in {image_file.name} and {len(labels)} labels in {label_file.name}"
        raise ValueError(f"{plain(folder)}: {found}, expected equally many")
    return images, labels


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the files of the data set by their names in MNIST; a plain file counts before one with `.gz`."""
    files, prefixes = {}, set()
    for path in sorted(folder.iterdir(), reverse=True):
        if path.is_file() and (match := _FILE.fullmatch(path.name.lower())):
            prefix, stem, kind, suffix = match.groups()
            prefixes.add(prefix.rstrip("-"))
            files["-".join(("t10k" if stem == "test" else stem, kind, suffix))] = path
    if len(prefixes) > 1:
        sets = listed(sorted(prefixes))
        raise ValueError(f"{plain(folder)}: files of several data sets, {sets}, expected one: give each its own folder")
    return files


def _read_file(path: Path, rank: int) -> Bytes:
    open_file: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            return _read_array(file, path, rank)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{plain(path)}: damaged or truncated gzip: {plain(error)}") from error


def _read_array(file: IO[bytes], path: Path, rank: int) -> Bytes:
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
