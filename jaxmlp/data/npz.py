"""NumPy archives (`.npz`) with the arrays x and y, and x_test and y_test if they bring a test part.

A member's header says how many bytes follow, and as in `idx` it is believed only as far as they do.
Nothing is ever unpickled.
"""

import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from jaxmlp.data._bounded import read_at_most
from jaxmlp.data._quoting import listed, plain
from jaxmlp.data.arrays import first_not_finite
from jaxmlp.data.source import Request, Source
from jaxmlp.data.targets import encode_targets


class _Rule(NamedTuple):
    kinds: str
    ranks: range
    meaning: str


class _Member(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    data: bytearray


_X = _Rule("biuf", range(2, 33), "real numbers of shape [N, n] or [N, ...]")
_Y = _Rule("biufU", range(1, 3), "real numbers or text of shape [N], or numbers of shape [N, K]")
_RULES = {"x": _X, "y": _Y, "x_test": _X, "y_test": _Y}
_READ_HEADER: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_npz(name: str, request: Request) -> Source:
    """Read the archive `name`: x of shape [N, n] (a higher rank is flattened to it), y of shape [N] or [N, K]."""
    path = Path(name)
    arrays = _read_arrays(path, request.labelled)
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if y in arrays and len(arrays[x]) != len(arrays[y]):
            raise ValueError(f"{plain(path)}: {len(arrays[x])} rows in {x} but {len(arrays[y])} in {y}")
    inputs = {key: _inputs(path, key, arrays[key]) for key in ("x", "x_test") if key in arrays}
    widths = [x.shape[1] for x in inputs.values()]
    if widths[0] != widths[-1]:
        raise ValueError(f"{plain(path)}: {widths[0]} columns in x but {widths[1]} in x_test")
    targets, class_names = _targets(path, arrays, request.task)
    return Source(
        name=name,
        x=inputs["x"],
        t=targets.get("y"),
        x_test=inputs.get("x_test"),
        t_test=targets.get("y_test"),
        class_names=class_names,
        image_shape=_image_shape([arrays[key] for key in inputs]),
    )


def _image_shape(parts: list[NDArray[Any]]) -> tuple[int, int] | None:
    """Take for images what is of rank 3 and one size in both parts: bytes, or floats from 0 to 1."""
    shapes = {part.shape[1:] for part in parts}
    height_and_width = shapes.pop()
    if shapes or len(height_and_width) != 2 or not all(map(_is_brightness, parts)):
        return None
    return height_and_width[0], height_and_width[1]


def _is_brightness(x: NDArray[Any]) -> bool:
    return x.dtype == np.uint8 or (x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1)


def _inputs(path: Path, key: str, array: NDArray[Any]) -> NDArray[Any]:
    array = array.reshape(len(array), -1)
    if array.dtype == np.uint8:
        return array
    with np.errstate(all="ignore"):
        x = array.astype(np.float32)
    if (bad := first_not_finite(x)) is not None:
        raise ValueError(f"{plain(path)}: {key}[{bad[0]}, {bad[1]}] is {array[bad]}, expected a finite float32")
    return x


def _targets(
    path: Path, arrays: Mapping[str, NDArray[Any]], task: str | None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...] | None]:
    """Encode y and y_test as one column, so that a class has one number in both."""
    keys = [key for key in ("y", "y_test") if key in arrays]
    if not keys:
        return {}, None
    columns = [arrays[key] for key in keys]
    first, last = columns[0], columns[-1]
    if (first.dtype.kind, first.shape[1:]) != (last.dtype.kind, last.shape[1:]):
        raise ValueError(
            f"{plain(path)}: y holds {first.dtype} of shape {first.shape}, "
            f"y_test {last.dtype} of shape {last.shape}, expected the same kind"
        )

    def where(row: int) -> str:
        key, index = (keys[0], row) if row < len(first) else (keys[-1], row - len(first))
        return f"{plain(path)}: {key}[{index}]"

    encoded = encode_targets(np.concatenate(columns), task, where)
    parts = np.split(encoded.t, [len(first)])
    return dict(zip(keys, parts, strict=False)), encoded.class_names


def _read_arrays(path: Path, labelled: bool) -> dict[str, NDArray[Any]]:
    members, names = _pull(path)
    needed = {"x", "y"} if labelled else {"x"}
    if "x_test" in members or "y_test" in members:
        needed |= {"x_test", "y_test"} if labelled else {"x_test"}
    if missing := sorted(needed - set(members)):
        raise ValueError(f"{plain(path)}: no array {missing[0]!r}, found {listed(names) or 'none'}")
    return {key: _array(path, key, member) for key, member in members.items()}


def _pull(path: Path) -> tuple[dict[str, _Member], list[str]]:
    """Return the members of `path` that have a rule, unchecked, and the names of all."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            return {key: _pull_member(archive, f"{key}.npy") for key in _RULES if key in names}, names
    except OSError as error:
        raise ValueError(f"{plain(path)}: {plain(error)}") from error
    # zipfile, zlib, struct, ast and NumPy each have types of their own for a damaged file.
    except Exception as error:
        raise ValueError(f"{plain(path)}: damaged or no archive: {plain(error)}") from error


def _pull_member(archive: zipfile.ZipFile, name: str) -> _Member:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by a method that NumPy does not use")
    with archive.open(name) as file, warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy mends some broken headers, and warns on stderr that it did
        shape, fortran_order, dtype = _READ_HEADER[npy.read_magic(file)](file)
        data = read_at_most(file, math.prod(shape) * dtype.itemsize + 1)
    return _Member(shape, fortran_order, dtype, data)


def _array(path: Path, key: str, member: _Member) -> NDArray[Any]:
    shape, fortran_order, dtype, data = member
    where, rule = f"{plain(path)}: {key}", _RULES[key]
    if dtype.kind not in rule.kinds or len(shape) not in rule.ranks or (dtype.kind == "U" and len(shape) > 1):
        held = "pickled objects" if dtype.hasobject else plain(dtype, 40)
        raise ValueError(f"{where} holds {held} of shape {plain(shape)}, expected {rule.meaning}")
    size = math.prod(shape) * dtype.itemsize
    if size == 0 or min(shape) < 0:
        raise ValueError(f"{where} is empty: {dtype} of shape {shape}, expected at least one row and one column")
    if len(data) != size:
        follow = f"{len(data)} follow" if len(data) < size else "more follow"
        raise ValueError(f"{where}: header says {dtype} of shape {shape}, that is {size} bytes, but {follow}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
