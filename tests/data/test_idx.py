"""Folders of IDX files: what is read, and which wrong files are refused."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from jaxmlp.data import read

IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([0, 2, 1, 0, 7], np.uint8)
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(array, shape=None):
    shape = array.shape if shape is None else shape
    return struct.pack(f">I{len(shape)}I", 0x0800 | len(shape), *shape) + array.tobytes()


VALID = {
    TRAIN_IMAGES: idx(IMAGES),
    TRAIN_LABELS: idx(LABELS),
    TEST_IMAGES: idx(IMAGES[:2]),
    TEST_LABELS: idx(LABELS[:2]),
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def without(*names):
    return {name: content for name, content in VALID.items() if name not in names}


@pytest.mark.parametrize("zipped", [set(), {TRAIN_IMAGES}, set(VALID)], ids=["plain", "mixed", "gzip"])
def test_a_folder_is_read_plain_or_gzipped(zipped, tmp_path):
    files = {
        name + ".gz" * (name in zipped): gzip.compress(content) if name in zipped else content
        for name, content in VALID.items()
    }
    source = read(write(tmp_path, files))
    assert source.x.dtype == np.uint8
    assert np.array_equal(source.x, IMAGES.reshape(5, 12))
    assert np.array_equal(source.t, LABELS)
    assert np.array_equal(source.x_test, IMAGES[:2].reshape(2, 12))
    assert np.array_equal(source.t_test, LABELS[:2])
    assert source.class_names == tuple("01234567")
    assert source.feature_names == ()
    assert source.image_shape == (3, 4)


@pytest.mark.parametrize("change", [str.upper, str.title])
def test_file_names_may_have_capital_letters(change, tmp_path):
    write(tmp_path, {change(f"{name}.gz"): gzip.compress(content) for name, content in VALID.items()})
    assert np.array_equal(read(tmp_path).x, IMAGES.reshape(5, 12))


EMNIST = {
    TRAIN_IMAGES: "emnist-letters-train-images-idx3-ubyte",
    TRAIN_LABELS: "emnist-letters-train-labels-idx1-ubyte",
    TEST_IMAGES: "emnist-letters-test-images-idx3-ubyte",
    TEST_LABELS: "emnist-letters-test-labels-idx1-ubyte",
}
WITH_DOTS = {name: name.replace("-idx", ".idx") for name in VALID}


@pytest.mark.parametrize("names", [EMNIST, WITH_DOTS], ids=["EMNIST", "dots"])
def test_the_names_of_other_sets_mean_the_same(names, tmp_path):
    source = read(write(tmp_path, {names[name]: content for name, content in VALID.items()}))
    assert np.array_equal(source.x, IMAGES.reshape(5, 12))
    assert np.array_equal(source.t, LABELS)
    assert np.array_equal(source.x_test, IMAGES[:2].reshape(2, 12))
    assert np.array_equal(source.t_test, LABELS[:2])


def test_a_plain_file_counts_before_a_compressed_one(tmp_path):
    others = {f"{name}.gz": gzip.compress(idx(IMAGES[:1] if "idx3" in name else LABELS[:1])) for name in VALID}
    assert len(read(write(tmp_path, VALID | others)).x) == 5


def test_a_folder_of_two_data_sets_is_refused(tmp_path, refusal):
    write(tmp_path, VALID | {EMNIST[name]: content for name, content in VALID.items()})
    assert "'', 'emnist-letters', expected one" in refusal(lambda: read(tmp_path))


def test_classes_are_counted_over_both_parts(tmp_path):
    write(tmp_path, VALID | {TEST_LABELS: idx(np.array([9, 0], np.uint8))})
    assert len(read(tmp_path).class_names) == 10


def test_a_folder_without_test_pair_has_no_test_part(tmp_path):
    source = read(write(tmp_path, without(TEST_IMAGES, TEST_LABELS)))
    assert (source.x_test, source.t_test) == (None, None)


def test_a_folder_with_only_a_test_pair_is_read_for_evaluation(tmp_path):
    source = read(write(tmp_path, without(TRAIN_IMAGES, TRAIN_LABELS)))
    assert np.array_equal(source.x, IMAGES[:2].reshape(2, 12))
    assert source.x_test is None


def test_labels_may_be_missing_where_they_are_not_needed(tmp_path):
    source = read(write(tmp_path, without(TRAIN_LABELS, TEST_LABELS)), labelled=False)
    assert (source.t, source.t_test, source.class_names) == (None, None, None)
    assert len(source.x_test) == 2


def test_labels_can_be_real_values(tmp_path):
    source = read(write(tmp_path, VALID), task="values")
    assert source.class_names is None
    assert source.t.dtype == np.float64
    assert np.array_equal(source.t_test, LABELS[:2])


FOUR_DIMENSIONS = struct.pack(">I4I", 0x0804, 1, 1, 1, 1) + b"\0"
ZIPPED = gzip.compress(VALID[TRAIN_IMAGES])
REFUSED = {
    "no header": (TRAIN_LABELS, b"\0\0\x08", ["3 bytes", "header of 8"]),
    "element type": (TRAIN_LABELS, b"\0\0\x0d\x01" + VALID[TRAIN_LABELS][4:], ["0x00000d01", "0x00000801"]),
    "rank": (TRAIN_IMAGES, FOUR_DIMENSIONS, ["0x00000804", "0x00000803"]),
    "truncated": (TRAIN_IMAGES, VALID[TRAIN_IMAGES][:-1], ["(5, 3, 4)", "60 bytes", "59 follow"]),
    "trailing byte": (TRAIN_IMAGES, VALID[TRAIN_IMAGES] + b"\0", ["(5, 3, 4)", "60 bytes", "more follow"]),
    "no pixels": (TRAIN_IMAGES, idx(IMAGES[:, :0]), ["(5, 0, 4)", "no dimension of 0"]),
    "lying header": (TRAIN_IMAGES, idx(IMAGES, (2**32 - 1,) * 3), ["4294967295", "60 follow"]),
    "counts differ": (TRAIN_LABELS, idx(LABELS[:4]), ["5 images", "4 labels", "equally many"]),
    "sizes differ": (TEST_IMAGES, idx(IMAGES[:2].reshape(2, 4, 3)), ["(3, 4)", "(4, 3)"]),
    "truncated gzip": (TRAIN_IMAGES + ".gz", ZIPPED[:-9], ["damaged or truncated gzip"]),
    "corrupt gzip": (TRAIN_IMAGES + ".gz", ZIPPED[:12] + b"\xff" + ZIPPED[13:], ["damaged or truncated gzip"]),
    "wrong checksum": (TRAIN_IMAGES + ".gz", ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], ["damaged", "CRC"]),
    "no gzip": (TRAIN_IMAGES + ".gz", VALID[TRAIN_IMAGES], ["damaged or truncated gzip"]),
}


@pytest.mark.parametrize(("name", "content", "parts"), REFUSED.values(), ids=REFUSED)
def test_a_damaged_file_is_refused_with_its_name_and_what_was_expected(name, content, parts, tmp_path, refusal):
    sentence = refusal(lambda: read(write(tmp_path, without(name.removesuffix(".gz")) | {name: content})))
    for part in [str(tmp_path), *parts]:
        assert part in sentence
    assert name in sentence or "differ" in sentence or "training images" in sentence


@pytest.mark.parametrize("missing", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_half_a_pair_names_the_missing_file(missing, tmp_path, refusal):
    sentence = refusal(lambda: read(write(tmp_path, without(missing))), FileNotFoundError)
    assert missing in sentence
    assert str(tmp_path) in sentence


def test_an_empty_folder_says_what_it_should_hold(tmp_path, refusal):
    assert TRAIN_IMAGES in refusal(lambda: read(tmp_path), FileNotFoundError)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(idx(IMAGES, (1 << 16, 1 << 8, 1 << 8)), 9),
        gzip.compress(idx(np.zeros((200, 512, 512), np.uint8), (2, 2, 2)), 9),
    ],
    ids=["header claims 4 GiB", "archive expands to 50 MB"],
)
def test_a_wrong_header_takes_no_more_memory_than_a_right_one(content, tmp_path, refusal):
    write(tmp_path, {TRAIN_IMAGES + ".gz": content, TRAIN_LABELS: VALID[TRAIN_LABELS]})
    tracemalloc.start()
    try:
        refusal(lambda: read(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # a few blocks of 1 MiB
