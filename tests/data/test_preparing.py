"""prepare and split: which examples are held out, and which statistics scale the data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data import EMBEDDED, Dataset, Scaling, Source, fingerprint, prepare, read, split


def source_of(t, class_names=None, **options):
    t = np.asarray(t)
    x = np.arange(2.0 * len(t), dtype=np.float32).reshape(-1, 2)
    return Source("made", x, t, feature_names=("a", "b"), class_names=class_names, **options)


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_set_is_prepared(name):
    train, validation, test, encoding = prepare(read(name))
    assert validation is None
    assert len(test) == -(-len(read(name).t) // 5)
    is_image = read(name).image_shape is not None
    assert np.allclose(np.mean(train.x, axis=None if is_image else 0), 0, atol=1e-4)
    assert (encoding.targets is None) == (encoding.class_names is not None)
    if encoding.targets is not None:
        assert abs(np.mean(train.t)) < 1e-4
        assert abs(np.std(train.t) - 1) < 1e-4


@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=5),
    test_fraction=st.floats(0.2, 0.5),
    validation_fraction=st.none() | st.floats(0.2, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_keeps_every_example_once_and_every_class_in_proportion(
    counts, test_fraction, validation_fraction, seed
):
    t = np.repeat(np.arange(len(counts)), counts)
    source = source_of(t, tuple("abcde"[: len(counts)]))
    try:
        parts = split(source, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed)
    except ValueError as error:
        too_few = np.ceil(test_fraction * len(t)) < len(counts)
        assert too_few or validation_fraction is not None
        assert ("at least" if too_few else "to validate with") in str(error)  # noqa: PT017
        return
    assert (parts.validation is None) == (validation_fraction is None)
    assert np.array_equal(parts.test.rows, split(source, test_fraction=test_fraction, seed=seed).test.rows)
    given = [part for part in parts if part is not None]
    assert np.array_equal(np.sort(np.concatenate([part.rows for part in given])), np.arange(len(t)))
    rest, before = t, len(t)
    for part, fraction in ((parts.test, test_fraction), (parts.validation, validation_fraction)):
        if part is not None:
            assert len(part.t) == np.ceil(fraction * before)
            held_out, of = (np.bincount(each, minlength=len(counts)) for each in (part.t, rest))
            assert np.all(np.abs(held_out - len(part.t) * of / len(rest)) <= 1)
            rest = np.repeat(np.arange(len(counts)), of - held_out)
            before = len(rest)


def test_a_validation_part_is_drawn_from_the_training_part_of_a_source_with_a_test_part():
    t = np.arange(20) % 2
    source = source_of(t, ("a", "b"), x_test=np.ones((1, 2), np.float32), t_test=np.array([1]))
    train, validation, test = split(source, validation_fraction=0.25)
    assert test.x is source.x_test
    assert sorted([*train.rows, *validation.rows]) == list(range(20))
    assert len(validation.t) == 5


def test_the_same_seed_draws_the_same_parts_and_another_does_not():
    iris = read("iris")
    prints = [fingerprint(prepare(iris, seed=seed).test) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_prepare_and_split_hold_out_the_same_examples():
    iris = read("iris")
    options = {"test_fraction": 0.3, "validation_fraction": 0.2, "seed": 5}
    *prepared, encoding = prepare(iris, **options)
    for part, data in zip(split(iris, **options), prepared, strict=True):
        assert fingerprint(encoding.encode(part.x, part.t, iris.class_names)) == fingerprint(data)


def test_rows_of_a_part_are_positions_in_the_source():
    iris = read("iris")
    parts = split(iris, validation_fraction=0.2, seed=3)
    assert sorted(np.concatenate([part.rows for part in parts])) == list(range(150))
    for part in parts:
        assert np.array_equal(part.x, iris.x[part.rows])
        assert np.array_equal(part.t, iris.t[part.rows])


def test_a_source_with_a_test_part_of_its_own_is_not_split():
    source = source_of([0, 1, 0], ("a", "b"), x_test=np.ones((1, 2), np.float32), t_test=np.array([1]))
    train, validation, test = split(source)
    assert validation is None
    assert train.x is source.x
    assert test.x is source.x_test
    assert (train.rows.tolist(), test.rows.tolist()) == ([0, 1, 2], [0])


def test_the_fingerprint_of_a_source_depends_on_its_test_part():
    source = source_of([0, 1, 0], ("a", "b"))
    tests = [{"x_test": np.full((1, 2), x, np.float32), "t_test": np.array([t])} for x, t in ((1, 0), (2, 0), (1, 1))]
    assert len({fingerprint(replace(source, **test)) for test in ({}, *tests)}) == 4


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
def test_the_training_part_alone_decides_the_scaling(scaling):
    source = source_of(np.arange(8.0), x_test=np.full((1, 2), 1e6, np.float32), t_test=np.array([1e6]))
    rows = split(source, validation_fraction=0.5).validation.rows
    source.x[rows], source.t[rows] = 1e5, 1e5
    train, validation, test, encoding = prepare(source, scaling=scaling, validation_fraction=0.5)
    left = np.setdiff1d(np.arange(8), rows)
    expected = Scaling.fit(source.x[left], scaling)
    assert np.array_equal(encoding.inputs.offset, expected.offset)
    assert np.array_equal(np.sort(train.x, axis=0), expected(source.x[left]))
    assert np.array_equal(validation.x, expected(source.x[rows]))
    assert np.array_equal(test.x, expected(source.x_test))
    assert np.allclose(encoding.targets.inverse(test.t), 1e6)


def test_images_share_one_offset_and_one_factor_and_named_columns_do_not():
    image = replace(source_of([0, 1, 0, 1], ("a", "b")), feature_names=())
    assert prepare(replace(image, x=image.x.astype(np.uint8)), test_fraction=0.5).encoding.inputs.offset.size == 1
    assert prepare(replace(image, image_shape=(1, 2)), test_fraction=0.5).encoding.inputs.offset.size == 1
    assert prepare(image, test_fraction=0.5).encoding.inputs.offset.size == 2
    table = replace(image, x=image.x.astype(np.uint8), feature_names=("a", "b"))
    assert prepare(table, test_fraction=0.5).encoding.inputs.offset.size == 2


REFUSED = {
    "scaling": (source_of([0, 1] * 5, "ab"), {"scaling": "minmx"}, ["scaling 'minmx'", "'minmax'"]),
    "test fraction": (
        source_of([0, 1], "ab"),
        {"test_fraction": 1.0},
        ["test_fraction", "1.0", "between 0 and 1"],
    ),
    "nan fraction": (source_of([0, 1], "ab"), {"test_fraction": np.nan}, ["test_fraction", "nan"]),
    "seed": (source_of([0, 1], "ab"), {"seed": -1}, ["seed", "-1"]),
    "part of a seed": (source_of([0, 1], "ab"), {"seed": 1.5}, ["seed", "whole number", "1.5"]),
    "targets missing": (replace(source_of([0.5, 1.5, 2.5]), t=np.zeros(2)), {}, ["made", "3 rows in x but 2 in t"]),
    "inputs of a test": (replace(source_of([0, 1]), x_test=np.ones((1, 2))), {}, ["made", "x_test and t_test"]),
    "nan": (replace(source_of([0.5, 1.5, 2.5]), x=np.full((3, 2), np.nan)), {}, ["x must be finite, got nan in row 0"]),
    "no targets": (replace(source_of([0, 1]), t=None), {}, ["made", "no targets"]),
    "single class": (source_of([1, 1, 1], ("a", "b")), {}, ["made", "'b'", "two classes"]),
    "single value": (source_of([2.5, 2.5, 2.5]), {}, ["made", "every target is 2.5", "two values"]),
    "lonely class": (source_of([0, 0, 1], ("a", "b")), {}, ["made", "'b'", "only one example"]),
    "lonely number": (source_of([0, 0, 1], ("1", "2.5")), {}, ["made", "'2.5'", "--task values"]),
    "few of each": (source_of([0, 0, 1, 1], ("a", "b")), {"test_fraction": 0.1}, ["3", "1", "at least 2"]),
    "few to train": (source_of([0, 0, 1, 1], ("a", "b")), {"test_fraction": 0.9}, ["0", "4", "at least 2"]),
    "validation fraction": (
        source_of([0, 1], "ab"),
        {"validation_fraction": 0.0},
        ["validation_fraction", "0.0", "between 0 and 1"],
    ),
    "lonely class to train with": (
        source_of([0, 0, 0, 1, 1], ("a", "b")),
        {"test_fraction": 0.4, "validation_fraction": 0.5},
        ["only one training example of class 'b'", "to validate with"],
    ),
    "few to validate": (
        source_of([0, 1] * 10, ("a", "b")),
        {"validation_fraction": 0.05},
        ["15 examples to train and 1 to validate with", "change the validation fraction"],
    ),
    "one value": (source_of([0.5]), {}, ["made", "0 examples to train", "at least 1"]),
}


@pytest.mark.parametrize(("source", "options", "parts"), REFUSED.values(), ids=REFUSED)
def test_data_that_cannot_be_split_are_refused(source, options, parts, refusal):
    sentence = refusal(lambda: prepare(source, **options))
    for part in parts:
        assert part in sentence


def test_classes_that_are_words_get_no_hint_at_real_values(refusal):
    assert "--task" not in refusal(lambda: prepare(source_of([0, 0, 1], ("a", "b"))))


@pytest.mark.parametrize("other", ["iris", (np.ones((2, 2)), np.array([0, 1])), Dataset([[1.0], [2.0]], [0, 1])])
def test_the_error_for_another_type_says_what_to_pass(other):
    with pytest.raises(TypeError, match=r"^source must be a Source, as data\.read returns, got (str|tuple|Dataset); "):
        prepare(other)
