"""Damaged files: the reader returns a Source or raises one line, and prints nothing."""

import gzip
import io
import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmlp.data import Source, read

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 3, 3), np.uint8)
LABELS = np.arange(9, dtype=np.uint8) % 4
FRAME = pl.DataFrame({"a": np.arange(12) / 8, "b": range(12), "y": ["one", "two, three", 'f"our', "é\n"] * 3})


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


def written(write, *arguments, **options):
    file = io.BytesIO()
    write(file, *arguments, **options)
    return file.getvalue()


ARRAYS = {"x": RNG.normal(size=(6, 2)), "y": np.array(list("abcabc"))}
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# Each kind of file: where it is written, what is read then, and valid contents to begin with.
KINDS = {
    "idx": (TRAIN_IMAGES, ".", [idx(IMAGES)]),
    "labels": (TRAIN_LABELS, ".", [idx(LABELS)]),
    "idx.gz": (TRAIN_IMAGES + ".gz", ".", [gzip.compress(idx(IMAGES), mtime=0)]),
    "npz": (
        "data.npz",
        "data.npz",
        [
            written(save, **arrays)
            for save in (np.savez, np.savez_compressed)
            for arrays in (ARRAYS, {"x": IMAGES, "y": LABELS})
        ],
    ),
    "csv": ("data.csv", "data.csv", [written(FRAME.write_csv), b"a,y\r\n1,0\r\n2,1\r\n"]),
    "csv.gz": ("data.csv.gz", "data.csv.gz", [gzip.compress(written(FRAME.write_csv, separator=";"), mtime=0)]),
    "parquet": (
        "data.parquet",
        "data.parquet",
        [written(FRAME.write_parquet, compression=method) for method in ("zstd", "uncompressed", "snappy")],
    ),
}
# A parquet file is read in a process of its own, 0.3 s each.
EXAMPLES = {"idx": 250, "labels": 100, "idx.gz": 350, "npz": 630, "csv": 560, "csv.gz": 100, "parquet": 12}


@st.composite
def damages(draw, content):
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(damaged)))
        end = min(len(damaged), position + draw(st.integers(0, 16)))
        match draw(st.sampled_from(["flip", "insert", "delete", "truncate", "splice"])):
            case "flip":
                damaged[position:end] = bytes(byte ^ draw(st.integers(1, 255)) for byte in damaged[position:end])
            case "insert":
                damaged[position:position] = draw(st.binary(max_size=8))
            case "delete":
                del damaged[position:end]
            case "truncate":
                del damaged[position:]
            case "splice":
                start = draw(st.integers(0, len(damaged)))
                damaged[position:end] = damaged[start : start + draw(st.integers(0, 64))]
    return bytes(damaged)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line_and_in_silence(kind, tmp_path, capfd):
    name, source, contents = KINDS[kind]
    if source == ".":
        (tmp_path / TRAIN_IMAGES).write_bytes(idx(IMAGES))
        (tmp_path / TRAIN_LABELS).write_bytes(idx(LABELS))
        (tmp_path / name.removesuffix(".gz")).unlink()
    target = "y" if kind in ("csv", "csv.gz", "parquet") else None

    @settings(max_examples=EXAMPLES[kind], database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(contents).flatmap(damages))
    def check(content):
        (tmp_path / name).write_bytes(content)
        try:
            assert isinstance(read(tmp_path / source, target=target), Source)
        except ValueError as error:
            assert type(error) is ValueError  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017

    check()
    assert capfd.readouterr() == ("", "")
