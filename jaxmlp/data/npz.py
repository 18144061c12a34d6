"""NumPy archives (`.npz`) with the arrays x and y, and x_test and y_test if there is a test part.

The customary names of these arrays are known too, see `_NAMES`; X is x.

NumPy reads an array in blocks: a header that promises more bytes than follow costs address space, but no memory.
Nothing is ever unpickled.
"""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from jaxmlp.data._quoting import listed, plain
from jaxmlp.data.arrays import first_not_finite
from jaxmlp.data.source import MOST_CLASSES, Request, Source, encode_targets

_X, _Y = "real numbers of shape [N, n] or [N, ...]", "real numbers or text of shape [N], or numbers of shape [N, K]"
_EXPECTED = {"x": _X, "y": _Y, "x_test": _X, "y_test": _Y}
_NAMES = (
    ("x", "y", "x_test", "y_test"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
"""What archives call the four arrays, in upper or lower case; the first line of which x is there counts."""


def read_npz(name: str, request: Request) -> Source:
    """Read the archive `name`: x of shape [N, n] (a higher rank is flattened to it), y of shape [N] or [N, K]."""
    path = Path(name)
    arrays, names = _read_arrays(path, request.labelled)
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if y in arrays and len(arrays[x]) != len(arrays[y]):
            raise ValueError(f"{plain(path)}: {len(arrays[x])} rows in {names[x]} but {len(arrays[y])} in {names[y]}")
    inputs = {key: _inputs(path, names[key], arrays[key]) for key in ("x", "x_test") if key in arrays}
    widths = [x.shape[1] for x in inputs.values()]
    if widths[0] != widths[-1]:
        raise ValueError(f"{plain(path)}: {widths[0]} columns in {names['x']} but {widths[1]} in {names['x_test']}")
    targets, class_names = _targets(path, arrays, names, request.task)
    t, t_test, x_test = targets.get("y"), targets.get("y_test"), inputs.get("x_test")
    shape = _image_shape([arrays[key] for key in inputs])
    notes = _about_many_classes(arrays.get("y"), class_names) if request.task is None else ()
    return Source(name, inputs["x"], t, x_test, t_test, class_names=class_names, image_shape=shape, notes=notes)


def _about_many_classes(y: NDArray[Any] | None, class_names: tuple[str, ...] | None) -> tuple[str, ...]:
    if y is None or y.dtype.kind not in "iu" or len(class_names or ()) <= MOST_CLASSES:
        return ()
    return (f"y: {len(class_names or ()):,} classes of whole numbers (--task values takes them for real values)",)


def _image_shape(parts: list[NDArray[Any]]) -> tuple[int, int] | None:
    """Return the size of images: bytes or floats from 0 to 1, of rank 3, of one size in both parts; else None."""

    def is_brightness(x: NDArray[Any]) -> bool:
        return x.dtype == np.uint8 or (x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1)

    shape = parts[0].shape[1:]
    is_image = len(shape) == 2 and all(part.shape[1:] == shape and is_brightness(part) for part in parts)
    return (shape[0], shape[1]) if is_image else None


def _inputs(path: Path, key: str, array: NDArray[Any]) -> NDArray[Any]:
    array = array.reshape(len(array), -1)
    if (bad := first_not_finite(array)) is not None:
        raise ValueError(f"{plain(path)}: {key}[{bad[0]}, {bad[1]}] is {array[bad]}, expected a finite number")
    return array


def _targets(
    path: Path, arrays: Mapping[str, NDArray[Any]], names: Mapping[str, str], task: str | None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...] | None]:
    """Encode y and y_test as one column, so that a class has the same number in both."""
    keys = [key for key in ("y", "y_test") if key in arrays]
    if not keys:
        return {}, None
    columns = [arrays[key] for key in keys]
    first, last = columns[0], columns[-1]
    if (first.dtype.kind, first.shape[1:]) != (last.dtype.kind, last.shape[1:]):
        found = f"{names['y']} holds {first.dtype} of shape {first.shape}"
        other = f"{names['y_test']} {last.dtype} of shape {last.shape}"
        raise ValueError(f"{plain(path)}: {found}, {other}, expected the same kind")

    def where(row: int) -> str:
        key, index = (keys[0], row) if row < len(first) else (keys[-1], row - len(first))
        return f"{plain(path)}: {names[key]}[{index}]"

    encoded = encode_targets(np.concatenate(columns), task, where)
    parts = np.split(encoded.t, [len(first)])
    return dict(zip(keys, parts, strict=False)), encoded.class_names


def _read_arrays(path: Path, labelled: bool) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays and their names in the file, by the keys of `_EXPECTED`."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
            names = _named(found)
            arrays = {key: _read_array(archive, key, names[key]) for key in _EXPECTED if names[key] in found}
    except OSError as error:
        raise ValueError(f"{plain(path)}: {plain(error)}") from error
    # zipfile, zlib, struct, ast and NumPy each raise their own exceptions for a damaged file.
    except Exception as error:
        raise ValueError(f"{plain(path)}: damaged, or no archive of arrays: {plain(error)}") from error
    needed = {"x", "y"} if labelled else {"x"}
    if "x_test" in arrays or "y_test" in arrays:
        needed |= {"x_test", "y_test"} if labelled else {"x_test"}
    if missing := sorted(needed - set(arrays)):
        raise ValueError(f"{plain(path)}: no array {names[missing[0]]!r}, found {listed(found) or 'none'}")
    for key, array in arrays.items():
        _check(f"{plain(path)}: {names[key]}", key, array)
    return arrays, names


def _named(found: list[str]) -> dict[str, str]:
    """Return what an archive calls each array, or would call one that it lacks."""
    as_written = {name.lower(): name for name in reversed(found)} | {name: name for name in found}
    line = next((line for line in _NAMES if line[0] in as_written), _NAMES[0])
    return {key: as_written.get(name, name) for key, name in zip(_EXPECTED, line, strict=True)}


def _read_array(archive: zipfile.ZipFile, key: str, called: str) -> NDArray[Any]:
    name = f"{called}.npy"
    # The decoders of other methods take as much memory as the file asks for.
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{called} is compressed by a method that NumPy does not use")
    with archive.open(name) as file, warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy repairs some broken headers, and warns on stderr
        try:
            array = npy.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{called} holds no {_EXPECTED[key]}: {error}") from error
        if file.read(1):  # reading to the end also verifies the checksum
            header = f"{array.dtype} of shape {array.shape}"
            raise ValueError(f"{called} has a header that says {header}, but more bytes follow")
    return array


def _check(where: str, key: str, array: NDArray[Any]) -> None:
    is_x, kind = key in ("x", "x_test"), array.dtype.kind
    ranks = range(2, 33) if is_x else range(1, 2 if kind == "U" else 3)
    if kind not in ("biuf" if is_x else "biufU") or array.ndim not in ranks:
        raise ValueError(f"{where} holds {plain(array.dtype, 40)} of shape {array.shape}, expected {_EXPECTED[key]}")
    if not array.size:
        raise ValueError(f"{where} is empty: shape {array.shape}, expected at least one row and one column")
