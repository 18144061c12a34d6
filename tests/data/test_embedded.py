"""The embedded data sets: all of them, from the library's own table."""

import numpy as np
import pytest

from jaxmlp.data import EMBEDDED, read


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_set_is_read(name):
    source = read(name)
    assert source.name == name
    assert source.x.dtype == np.float64
    assert source.x.shape == (len(source.t), len(source.feature_names))
    assert f"{len(source.t):,}" in EMBEDDED[name].description
    assert source.x_test is None


@pytest.mark.parametrize("name", sorted(set(EMBEDDED) - {"diabetes"}))
def test_every_class_has_a_name_and_examples(name):
    source = read(name)
    assert source.t.dtype == np.int64
    assert np.array_equal(np.unique(source.t), np.arange(len(source.class_names)))


def test_diabetes_is_raw_and_real_valued():
    source = read("diabetes")
    assert source.class_names is None
    assert source.t.dtype == np.float64
    assert source.x[:, source.feature_names.index("age")].min() == 19


def test_classes_carry_the_names_that_scikit_learn_gives_them():
    assert read("breast_cancer").class_names == ("malignant", "benign")
    assert read("digits").class_names == tuple("0123456789")


def test_task_values_converts_classes_to_real_values():
    source = read("digits", task="values")
    assert source.class_names is None
    assert set(source.t) == set(range(10))


@pytest.mark.parametrize("name", EMBEDDED)
def test_only_digits_are_images(name):
    assert read(name).image_shape == ((8, 8) if name == "digits" else None)
