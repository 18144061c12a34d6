"""The best of a random number of trials: what is drawn is what is accounted, and nothing else is told."""

from random import Random

import dp_accounting as dp
import jax
import numpy as np
import pytest
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy import stats

from jaxmlp import Dataset, TrainConfig, private
from jaxmlp.private import Guarantee, Privacy, RandomNumber, Selected, select
from jaxmlp.private.accounting import ORDERS
from jaxmlp.sweep.space import Space

from .test_step import MLP_, flat

RELATION = dp.NeighboringRelation.REPLACE_SPECIAL
CONFIG = TrainConfig(epochs=3, batch_size=80, learning_rate=1.0, weight_decay=0.0)
PRIVACY = Privacy(noise_multiplier=6.0, clip=0.2, delta=1e-3)
SPACE = Space(("learning_rate", "seed"), ((0.1, 0), (1.0, 0), (1.0, 1)))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Dataset(rng.normal(size=(100, 5)), rng.integers(0, 3, 100))


@pytest.fixture(scope="module")
def public():
    rng = np.random.default_rng(1)
    return Dataset(rng.normal(size=(300, 5)), rng.integers(0, 3, 300))


@pytest.mark.parametrize(
    ("shape", "probabilities"),
    [
        (1.0, lambda gamma, k: stats.geom(gamma).pmf(k)),
        (0.0, lambda gamma, k: stats.logser(1 - gamma).pmf(k)),
        (0.5, lambda gamma, k: stats.nbinom(0.5, gamma).pmf(k) / stats.nbinom(0.5, gamma).sf(0)),
        (4.0, lambda gamma, k: stats.nbinom(4.0, gamma).pmf(k) / stats.nbinom(4.0, gamma).sf(0)),
    ],
)
def test_the_number_of_trials_has_the_distribution_of_the_account(shape, probabilities):
    number, generator, n = RandomNumber(mean=5.0, shape=shape), Random(0), 4000
    of_each = probabilities(number.gamma, np.arange(1, 2000))
    assert of_each.sum() == pytest.approx(1)
    assert of_each @ np.arange(1, 2000) == pytest.approx(5.0)
    drawn = np.array([number.draw(generator) for _ in range(n)])
    last = int(np.searchsorted(of_each.cumsum(), 1 - 20 / n)) + 1  # this and all above it are counted as one
    counts = np.bincount(np.minimum(drawn, last), minlength=last + 1)[1:]
    expected = n * np.append(of_each[: last - 1], of_each[last - 1 :].sum())
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_the_operating_system_draws_unless_a_generator_is_given():
    number = RandomNumber(mean=50.0)
    assert len({number.draw() for _ in range(20)}) > 5
    assert number.draw(Random(3)) == number.draw(Random(3))


@pytest.mark.parametrize("seed", range(4))
def test_is_the_best_of_as_many_random_trials_as_were_drawn(data, public, seed):
    number, secret, generator = RandomNumber(mean=4.0), jax.random.key(seed), Random(seed)
    n = number.draw(generator)
    rows = tuple(generator.choice(SPACE.rows) for _ in range(n))
    all_of_them = private.sweep(
        Space(SPACE.names, rows), data, PRIVACY, CONFIG, mlp=MLP_, secret=secret, validation=public
    )
    best = all_of_them.best()
    chosen = select(
        *(SPACE, data, PRIVACY, CONFIG),
        validation=public,
        number=number,
        mlp=MLP_,
        secret=secret,
        generator=Random(seed),
    )
    np.testing.assert_allclose(flat(chosen.network.params), flat(best.network.params), rtol=1e-4, atol=1e-6)
    assert (chosen.values, chosen.validation.accuracy) == (best.values, best.validation.accuracy)


def test_the_winner_is_accounted_as_dp_accounting_says(data, public):
    # The largest batch has all examples, so that dp-accounting takes the event whole.
    assert private.Mechanism(100, 80, 6.0, 0.2).largest_batch == 100
    number = RandomNumber(mean=3.0, shape=0.5)
    # A trial with less noise counts, whether or not it is drawn.
    space = Space(("noise_multiplier",), ((8.0,),) * 50 + ((6.0,),))
    chosen = select(space, data, PRIVACY, CONFIG, validation=public, number=number, mlp=MLP_, generator=Random(0))
    assert chosen.values == {"noise_multiplier": 8.0}
    event = dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.8, dp.GaussianDpEvent(6.0)), 3)
    best = RdpAccountant(ORDERS, RELATION).compose(RepeatAndSelectDpEvent(event, 3.0, 0.5)).get_epsilon(1e-3)
    assert chosen.guarantee.epsilon == pytest.approx(best, rel=1e-9)
    assert chosen.epsilon_of_one == pytest.approx(PLDAccountant(RELATION).compose(event).get_epsilon(1e-3), rel=1e-3)
    assert chosen.guarantee.epsilon > chosen.epsilon_of_one
    assert chosen.guarantee.noise_multiplier == 8.0


def test_nothing_but_the_winner_is_told(data, public):
    chosen = select(SPACE, data, PRIVACY, CONFIG, validation=public, number=RandomNumber(mean=2.0), mlp=MLP_)
    assert Selected._fields == ("network", "values", "guarantee", "epsilon_of_one", "validation", "test")
    assert set(chosen.values) == set(SPACE.names)
    words = str(Guarantee(**chosen.guarantee._asdict()))
    assert "the best, by its score on validation examples, of a random number of trials" in words
    assert "mean 2" in words
    assert "if nothing of other trials is seen" in words


def test_a_choice_by_private_examples_is_refused(data):
    for validation in (data, Dataset(data.x[:50], data.t[:50]), Dataset(data.x.copy(), data.t)):
        with pytest.raises(ValueError, match="validation has training examples, whose score no noise hides"):
            select(SPACE, data, PRIVACY, CONFIG, validation=validation, mlp=MLP_)
    with pytest.raises(ValueError, match="validation is missing: give examples to choose by, that are not private"):
        select(SPACE, data, PRIVACY, CONFIG, mlp=MLP_)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"mean": 1.0}, "mean must be at least 1.001"), ({"shape": -0.5}, "shape must be at least 0")],
)
def test_a_distribution_that_is_none_is_one_line(numbers, words):
    with pytest.raises(ValueError, match=words):
        RandomNumber(**numbers)


def test_a_fixed_number_of_trials_is_refused(data, public):
    with pytest.raises(TypeError, match="number must be a RandomNumber"):
        select(SPACE, data, PRIVACY, CONFIG, validation=public, number=10, mlp=MLP_)
