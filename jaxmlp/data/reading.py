"""`read` returns a `Source`, given the name of an embedded set, a file or a folder, in any known format.

The embedded sets are five small classics that come with scikit-learn. To add a format, add its reader, a function of a
name and a `Request`, to `_READERS`; to add a kind of table, add a function that reads a frame to `_frames.READERS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name
from jaxmlp.data._frames import READERS as TABLES
from jaxmlp.data._frames import ending
from jaxmlp.data._quoting import check_features, plain
from jaxmlp.data.idx import read_idx
from jaxmlp.data.npz import read_npz
from jaxmlp.data.source import TASKS, Request, Source, encode_targets
from jaxmlp.data.tables import read_table

_READERS: dict[str, Callable[[str, Request], Source]] = {
    **dict.fromkeys(TABLES, read_table),
    ".npz": read_npz,
}


class Embedded(NamedTuple):
    """The function of `sklearn.datasets` that loads a set, its options, and one line about the set."""

    loader: str
    options: dict[str, bool]
    description: str
    image_shape: tuple[int, int] | None = None


EMBEDDED: dict[str, Embedded] = {
    "digits": Embedded("load_digits", {}, "1,797 handwritten digits of 8 x 8 pixels, 10 classes", (8, 8)),
    "iris": Embedded("load_iris", {}, "150 iris flowers, 4 measurements, 3 classes"),
    "wine": Embedded("load_wine", {}, "178 wines, 13 chemical measurements, 3 classes"),
    "breast_cancer": Embedded("load_breast_cancer", {}, "569 tumours, 30 measurements, 2 classes"),
    # Not scaled, because a model should take the measurements of a new patient as they are.
    "diabetes": Embedded("load_diabetes", {"scaled": False}, "442 patients, 10 measurements, real values"),
}
"""The embedded data sets by name."""


def read(
    source: str | PathLike[str],
    *,
    target: str | None = None,
    task: str | None = None,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] | None = None,
    separator: str | None = None,
    labelled: bool = True,
) -> Source:
    """Read a data set.

    Parameters
    ----------
    source
        The name of an embedded set (see `EMBEDDED`; write `./iris` for a folder of that name), a folder of
        IDX files (`train-images-idx3-ubyte`, ..., each plain or `.gz`), or a `.csv`, `.tsv` (both also with `.gz`),
        `.parquet` or `.npz` file.
    target
        The column to learn, if the source is a table; a table that is `labelled` needs it.
    task : "classes", "values" or None
        The kind of targets. By default text, booleans and whole numbers are classes, and others real values. Whole
        numbers of a table are real values too if there are more than 20, or three or more of which one occurs once; a
        note of the source says what they are taken for.
    features
        Names of the features to read, in this order, as a trained model needs them; other columns are left out. If
        the source has no feature names, only the number of features is compared.
    drop
        Names of columns of a table that are no features.
    missing
        Texts that mean a missing cell of a table, in upper or lower case; by default those of `MISSING`.
    separator
        What separates the cells of a `.csv` file, a character or "tab"; by default it is recognised. Commas in numbers
        are decimal where cells are not separated by commas.
    labelled
        Whether targets are needed. If not, a table's target is not read, and the targets of other sources may be
        missing; then `t` is None.

    Raises
    ------
    ValueError
        If the source cannot be read; the message names the file, the place in it, and what was expected.
    FileNotFoundError
        If there is no such data set, file or folder, or a folder lacks a file.
    ImportError
        If the package that reads it (polars, scikit-learn) is not installed.

    Examples
    --------
    >>> iris = read("iris")
    >>> iris.x.shape, iris.class_names
    ((150, 4), ('setosa', 'versicolor', 'virginica'))
    >>> read("irs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: unknown data set 'irs', did you mean 'iris'? ..., and there is no such file or folder
    """
    name, request = fspath(source), Request(target, task, features, drop, missing, separator, labelled)
    if task is not None and task not in TASKS:
        raise ValueError(unknown_name("task", task, TASKS))
    try:
        reader = _find_reader(name)
        if reader is not read_table and (given := request.of_table):
            raise ValueError(f"{plain(name)} is not a table: leave out {', '.join(given)}")
        found = reader(name, request)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{plain(name)}: {error.strerror or plain(error)}, expected a readable file") from error
    return _select(found, features) if features else found


def is_table(source: str | PathLike[str]) -> bool:
    """Tell whether a source is a table, a file in which one column is the target; an embedded set is not."""
    path = Path(source)
    return ending(path) in TABLES and path.is_file()


def _find_reader(name: str) -> Callable[[str, Request], Source]:
    path = Path(name)
    if name in EMBEDDED:
        return _read_embedded
    if path.is_dir():
        return read_idx
    if path.exists() and not path.is_file():
        raise ValueError(f"{plain(name)}: not a regular file, expected a file or a folder with data")
    if not path.is_file():
        raise FileNotFoundError(f"{unknown_name('data set', name, EMBEDDED)}, and there is no such file or folder")
    if (suffix := ending(path)) not in _READERS:
        raise ValueError(f"{plain(name)}: {unknown_name('kind of data file', suffix, _READERS)}")
    return _READERS[suffix]


def _read_embedded(name: str, request: Request) -> Source:
    entry = EMBEDDED[name]
    bunch = getattr(optional("sklearn.datasets"), entry.loader)(**entry.options)
    t, class_names = encode_targets(bunch.target, request.task, lambda row: f"{name}: target[{row}]")
    if class_names is not None and "target_names" in bunch:
        class_names = tuple(str(bunch.target_names[int(label)]) for label in class_names)
    features, x = tuple(map(str, bunch.feature_names)), bunch.data
    return Source(name, x, t, feature_names=features, class_names=class_names, image_shape=entry.image_shape)


def _select(source: Source, features: Sequence[str]) -> Source:
    """Return `source` with these features only; `read_table` has already selected a table's."""
    if source.feature_names == tuple(features):
        return source
    if not source.feature_names:
        if source.x.shape[1] != len(features):
            raise ValueError(f"{plain(source.name)}: {source.x.shape[1]} features, expected {len(features)}")
        return source
    check_features(plain(source.name), features, source.feature_names)
    columns = [source.feature_names.index(name) for name in features]
    return replace(source, x=source.x[:, columns], feature_names=tuple(features), image_shape=None)
