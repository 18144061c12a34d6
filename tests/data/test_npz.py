"""NumPy archives: what x and y may be, and which wrong files are refused."""

import io
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxmlp.data import read

X = np.arange(8.0).reshape(4, 2)
Y = np.array([3, 1, 3, 7])


def save(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(tmp_path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(tmp_path / "data.npz", "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return tmp_path / "data.npz"


def claim(header):
    """A member whose header is this text, and whose data are 64 bytes."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def test_integer_labels_become_classes_by_their_distinct_values(tmp_path):
    source = read(save(tmp_path, x=X, y=Y))
    assert source.class_names == ("1", "3", "7")
    assert np.array_equal(source.t, [1, 0, 1, 2])
    assert np.array_equal(source.x, X)
    assert source.x.dtype == X.dtype
    assert source.x_test is None


def test_many_classes_of_whole_numbers_are_noted(tmp_path):
    assert read(save(tmp_path, x=np.ones((20, 1)), y=np.arange(20))).notes == ()
    (line,) = read(save(tmp_path, x=np.ones((21, 1)), y=np.arange(21))).notes
    assert line == "y: 21 classes of whole numbers (--task values takes them for real values)"


def test_text_labels_become_classes(tmp_path):
    assert read(save(tmp_path, x=X, y=np.array(["b", "a", "b", "c"]))).class_names == ("a", "b", "c")


@pytest.mark.parametrize("y", [np.array([0.5, 1.5, 2.5, 3.5]), np.arange(12).reshape(4, 3)])
def test_real_and_row_targets_are_values(y, tmp_path):
    source = read(save(tmp_path, x=X, y=y))
    assert source.class_names is None
    assert source.t.dtype == np.float64
    assert np.array_equal(source.t, y)


def test_a_class_has_one_number_in_both_parts(tmp_path):
    source = read(save(tmp_path, x=X, y=Y, x_test=X[:2], y_test=np.array([8, 3])))
    assert source.class_names == ("1", "3", "7", "8")
    assert np.array_equal(source.t, [1, 0, 1, 2])
    assert np.array_equal(source.t_test, [3, 1])


@pytest.mark.parametrize(
    "names",
    [
        ("X", "y", "X_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_customary_names_of_the_arrays_are_known(names, tmp_path, refusal):
    arrays = dict(zip(names, (X, Y, X[:2], Y[:2]), strict=True))
    source = read(save(tmp_path, **arrays))
    assert np.array_equal(source.x, X)
    assert np.array_equal(source.t, [1, 0, 1, 2])
    assert np.array_equal(source.x_test, X[:2])
    assert np.array_equal(source.t_test, [1, 0])
    assert f"'{names[3]}'" in refusal(lambda: read(save(tmp_path, **{key: arrays[key] for key in names[:3]})))
    assert f"{names[0]}[0, 1] is nan" in refusal(lambda: read(save(tmp_path, **arrays | {names[0]: X * [1, np.nan]})))


def test_images_are_flattened_and_stay_bytes(tmp_path):
    images = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
    source = read(save(tmp_path, x=images, y=Y))
    assert source.x.dtype == np.uint8
    assert np.array_equal(source.x, images.reshape(4, 6))
    assert source.image_shape == (2, 3)


@pytest.mark.parametrize(
    ("x", "x_test", "shape"),
    [
        (np.ones((4, 2, 3)), np.ones((4, 2, 3), np.uint8), (2, 3)),
        (np.ones((4, 2, 3), np.float16), np.ones((4, 3, 2)), None),
        (np.ones((4, 2, 3)), np.ones((4, 6)), None),
        (np.ones((4, 2, 3), int), np.ones((4, 2, 3)), None),
        (np.ones((4, 2, 3)), -np.ones((4, 2, 3)), None),
        (np.ones((4, 2, 3)), 2 * np.ones((4, 2, 3)), None),
        (np.ones((4, 1, 2, 3)), np.ones((4, 1, 2, 3)), None),
        (np.ones((4, 6), np.uint8), np.ones((4, 6), np.uint8), None),
    ],
    ids=["floats and bytes", "two sizes", "one part flat", "integers", "negative", "above 1", "rank 4", "rank 2"],
)
def test_bytes_and_floats_of_rank_3_and_one_size_are_images(x, x_test, shape, tmp_path):
    assert read(save(tmp_path, x=x, y=Y, x_test=x_test, y_test=Y)).image_shape == shape


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, ">f4", ">i2", "<f8", np.longdouble])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_any_real_type_and_layout_is_read(dtype, layout, tmp_path):
    x = layout(np.arange(12).reshape(2, 3, 2).astype(dtype))
    assert np.array_equal(read(save(tmp_path, x=x, y=[0, 1])).x, x.reshape(2, 6).astype(np.float32))


def test_targets_may_be_missing_where_they_are_not_needed(tmp_path):
    source = read(save(tmp_path, x=X, x_test=X), labelled=False)
    assert (source.t, source.t_test, source.class_names) == (None, None, None)


NAN = X.copy()
NAN[2, 1] = np.nan
REFUSED = {
    "no x": ({"y": Y, "z": Y}, ["'x'", "'y', 'z'"]),
    "no y": ({"x": X, "labels": Y}, ["'y'", "'labels'"]),
    "no y_test": ({"x": X, "y": Y, "x_test": X}, ["'y_test'"]),
    "no x_test": ({"x": X, "y": Y, "y_test": Y}, ["'x_test'"]),
    "lengths": ({"x": X, "y": Y[:3]}, ["4 rows in x", "3 in y"]),
    "test lengths": ({"x": X, "y": Y, "x_test": X, "y_test": Y[:1]}, ["4 rows in x_test", "1 in y_test"]),
    "widths": ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, ["2 columns in x", "1 in x_test"]),
    "x of rank 1": ({"x": Y, "y": Y}, ["x holds int64", "(4,)", "[N, n]"]),
    "y of rank 0": ({"x": X, "y": 3}, ["y holds int64", "()", "[N]"]),
    "y of rank 3": ({"x": X, "y": Y.reshape(4, 1, 1)}, ["y holds int64", "(4, 1, 1)"]),
    "text in rows": ({"x": X, "y": np.full((4, 2), "a")}, ["y holds <U1", "(4, 2)"]),
    "complex": ({"x": X * 1j, "y": Y}, ["x holds complex128", "real numbers"]),
    "text in x": ({"x": X.astype(str), "y": Y}, ["x holds <U", "real numbers"]),
    "objects": ({"x": X, "y": np.array([1, "a", None, 2], object)}, ["y holds no real numbers", "allow_pickle=False"]),
    "structured": ({"x": X, "y": np.zeros(4, [("a", int)])}, ["y holds", "expected"]),
    "empty": ({"x": X[:0], "y": Y[:0]}, ["x is empty", "(0, 2)"]),
    "nan": ({"x": NAN, "y": Y}, ["x[2, 1]", "nan", "finite"]),
    "infinite": ({"x": X - np.inf, "y": Y}, ["x[0, 0]", "-inf", "finite"]),
    "nan in y": ({"x": X, "y": NAN[:, 1]}, ["y[2]", "nan", "finite"]),
    "nan in y_test": ({"x": X, "y": X[:, 0], "x_test": X, "y_test": NAN[:, 1]}, ["y_test[2]", "nan"]),
    "kinds": ({"x": X, "y": Y, "x_test": X, "y_test": X[:, 0]}, ["y holds int64", "y_test float64"]),
}


@pytest.mark.parametrize(("arrays", "parts"), REFUSED.values(), ids=REFUSED)
def test_wrong_arrays_are_refused_by_key(arrays, parts, tmp_path, refusal):
    sentence = refusal(lambda: read(save(tmp_path, **arrays)))
    for part in ["data.npz", *parts]:
        assert part in sentence


CLAIMS = {
    "huge": ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2)}", "Unable to allocate"),
    "large": ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000, 2)}", "got 64"),
    "small": ("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}", "more bytes follow"),
    "negative": ("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -4)}", "x holds no real numbers"),
    "too many dimensions": ("{'descr': '|u1', 'fortran_order': False, 'shape': (64," + "1," * 40 + ")}", "[N, n]"),
    "not a dictionary": ("[1, 2]", "damaged"),
    "not a literal": ("{'descr': open('/etc/hostname')}", "damaged"),
    "wrong escape": (r"{'descr': '\d', 'fortran_order': False, 'shape': (2, 4)}", "damaged"),
    "Python 2": ("{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 4L)}", "damaged"),
    "unknown type": ("{'descr': '<q9', 'fortran_order': False, 'shape': (2, 4)}", "damaged"),
}


@pytest.mark.parametrize(("header", "part"), CLAIMS.values(), ids=CLAIMS)
def test_a_wrong_header_is_refused(header, part, tmp_path, refusal, recwarn):
    sentence = refusal(lambda: read(archive(tmp_path, x=claim(header), y=npy(Y))))
    assert part in sentence
    assert "data.npz" in sentence
    assert not recwarn


def test_a_wrong_header_takes_no_more_memory_than_a_right_one(tmp_path, refusal):
    bomb = npy(np.zeros((4, 2))) + bytes(100 << 20)
    path = archive(tmp_path, x=bomb, y=npy(Y))
    del bomb
    tracemalloc.start()
    try:
        assert "more bytes follow" in refusal(lambda: read(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_header_that_promises_gigabytes_takes_no_memory(tmp_path, refusal):
    resource = pytest.importorskip("resource")
    path = archive(tmp_path, x=claim("{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824, 2)}"), y=npy(Y))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "x holds no real numbers" in refusal(lambda: read(path)) or "allocate" in refusal(lambda: read(path))
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 64 << 20


def test_a_wrong_checksum_is_refused(tmp_path, refusal):
    path = archive(tmp_path, zipfile.ZIP_STORED, x=npy(X), y=npy(Y))
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 8] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal(lambda: read(path))


def test_a_compression_method_that_numpy_does_not_use_is_refused(tmp_path, refusal):
    path = archive(tmp_path, zipfile.ZIP_LZMA, x=npy(X), y=npy(Y))
    assert "method" in refusal(lambda: read(path))


def test_a_pickle_is_never_opened(tmp_path, refusal):
    marker = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return marker.touch, ()

    np.savez(tmp_path / "data.npz", x=X, y=np.array([Trap()] * 4, object))
    assert "allow_pickle=False" in refusal(lambda: read(tmp_path / "data.npz"))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not an archive"])
def test_a_file_that_is_no_archive_is_refused(content, tmp_path, refusal):
    (tmp_path / "data.npz").write_bytes(content)
    assert "damaged, or no archive" in refusal(lambda: read(tmp_path / "data.npz"))
