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
        The column to learn, if the source is a table; a table that is `labelled` needs it.
    task : "classes" or "values", optional
        The kind of targets. By default text, booleans and integers are classes, and floats are real values.
    features : sequence of str, optional
        Names of the features to read, in this order, as a trained model needs them; other columns are left out. If
        the source has no feature names, only the number of features is compared.
    labelled : bool
        Whether targets are needed. If not, they may be missing, and then `t` is None.

    Raises
    ------
    ValueError
        If the source cannot be read like this. The line names the file, the place in it, and what was expected there.
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
    """Return `source` with these features alone; `read_table` has already chosen those of a table."""
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
