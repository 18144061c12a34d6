"""`read`: from the name of an embedded set, a file or a folder to a `Source`, whatever the format.

To add a format, add its reader, a function of a name and a `Request`, to `_READERS`; to add a kind of table, add a
function that reads a frame to `tables.READERS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from jaxmlp._validation import unknown_name
from jaxmlp.data._quoting import missing_feature, plain, quoted
from jaxmlp.data.embedded import EMBEDDED, read_embedded
from jaxmlp.data.idx import read_idx
from jaxmlp.data.npz import read_npz
from jaxmlp.data.source import Request, Source
from jaxmlp.data.tables import READERS as TABLE_READERS
from jaxmlp.data.tables import read_table
from jaxmlp.data.targets import TASKS

__all__ = ["is_table", "read"]

_READERS: dict[str, Callable[[str, Request], Source]] = {
    **dict.fromkeys(TABLE_READERS, read_table),
    ".npz": read_npz,
}


def read(
    source: str | PathLike[str],
    *,
    target: str | None = None,
    task: str | None = None,
    features: Sequence[str] | None = None,
    labelled: bool = True,
) -> Source:
    """Read a data set.

    Parameters
    ----------
    source : str or path
        The name of an embedded set (see `EMBEDDED`; write `./iris` for a folder of that name), a folder of
        IDX files (`train-images-idx3-ubyte`, ..., each plain or `.gz`), or a `.csv`, `.parquet` or `.npz` file.
    target : str, optional
        The column to learn, for a table; without it a table is an error.
    task : "classes" or "values", optional
        What the targets are. Left out, text, booleans and integers are classes and floats real values.
    features : sequence of str, optional
        The feature names of a trained model: exactly these are read, in this order, and others left aside.
        Of a source whose features have no names only the count is compared.
    labelled : bool
        False where targets are not needed: they may then be missing, and `t` is None.

    Raises
    ------
    ValueError
        If the source cannot be read as asked. One line: the file, where in it, what is there, what was expected.
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
    name, request = fspath(source), Request(target, task, features, labelled)
    if task is not None and task not in TASKS:
        raise ValueError(unknown_name("task", task, TASKS))
    try:
        reader = _find_reader(name)
        if target is not None and reader is not read_table:
            raise ValueError(f"{plain(name)} is no table: a target column, here {quoted(target)}, cannot be named")
        found = reader(name, request)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{plain(name)}: {error.strerror or plain(error)}, expected a readable file") from error
    return _select(found, features) if features else found


def is_table(source: str | PathLike[str]) -> bool:
    """Tell whether a source is a table, in which one column is the target.

    >>> is_table("iris")
    False
    """
    path = Path(source)
    return path.suffix.lower() in TABLE_READERS and path.is_file()


def _find_reader(name: str) -> Callable[[str, Request], Source]:
    path = Path(name)
    if name in EMBEDDED:
        return read_embedded
    if path.is_dir():
        return read_idx
    if path.exists() and not path.is_file():
        raise ValueError(f"{plain(name)}: not a regular file, expected a file or a folder with data")
    if not path.is_file():
        raise FileNotFoundError(f"{unknown_name('data set', name, EMBEDDED)}, and there is no such file or folder")
    if (suffix := path.suffix.lower()) not in _READERS:
        raise ValueError(f"{plain(name)}: {unknown_name('kind of data file', suffix, _READERS)}")
    return _READERS[suffix]


def _select(source: Source, features: Sequence[str]) -> Source:
    """Return `source` with these features; of a table nothing else was read."""
    if source.feature_names == tuple(features):
        return source
    if not source.feature_names:
        if source.x.shape[1] != len(features):
            raise ValueError(f"{plain(source.name)}: {source.x.shape[1]} features, expected {len(features)}")
        return source
    for name in features:
        if name not in source.feature_names:
            raise ValueError(f"{plain(source.name)}: {missing_feature(name, source.feature_names)}")
    columns = [source.feature_names.index(name) for name in features]
    return replace(source, x=source.x[:, columns], feature_names=tuple(features), image_shape=None)
