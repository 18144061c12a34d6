"""What breaks private training elsewhere, and the tests that would notice it here.

The list follows "Common pitfalls in DP training" of jax_privacy's documentation.

- Division by the real batch size: test_step, `test_the_sum_is_divided_by_the_expected_batch_not_by_the_drawn`.
- Noise for another sensitivity: `test_noise_follows_the_clip_and_the_account_does_not` below; test_step,
  `test_no_example_moves_the_sum_by_more_than_the_clip`, `test_noise_has_the_deviation_of_the_account_everywhere`.
- A sampler that is not the accountant's: test_mechanism, `test_batches_are_poisson_samples`; test_training,
  `test_equals_a_loop_over_examples`; test_auditing_by_runs,
  `test_batches_that_are_not_drawn_as_accounted_are_found`; test_accounting,
  `test_a_tight_truncation_costs_what_dp_accounting_says`.
- Released metadata: cli/test_private, `test_the_model_holds_no_digest_of_training_examples`,
  `test_class_names_are_said_to_be_public`, `test_what_learned_from_examples_is_named`; test_checkpoint,
  `test_only_the_owner_may_read_it`. The number of examples is public under the relation that is accounted.
- A neighbouring relation that is not said: test_accounting, `test_equals_the_accountant`; test_training,
  `test_says_what_is_spent_after_each_epoch`.
- Empty batches: `test_an_empty_batch_is_a_step_of_noise`. Gradients that are not finite:
  `test_an_example_without_a_finite_gradient_has_no_influence`; test_step, `test_no_example_moves_...`.
- Accumulation and operations across examples: `test_every_example_is_clipped_on_its_own`; noise is added once a step:
  test_training, `test_equals_a_loop_over_examples`.
- Released auxiliary values: `test_an_example_that_no_batch_draws_leaves_no_trace`; test_training,
  `test_nothing_but_the_parameters_comes_from_examples`.
- Generators: test_training, `test_every_run_has_its_own_secret_unless_one_is_given`; test_step,
  `test_noise_has_the_deviation_of_the_account_everywhere`; test_auditing_by_runs,
  `test_noise_that_is_the_same_in_every_run_is_found`; test_checkpoint, `test_a_killed_run_makes_the_same_releases_...`.
- Floating point: test_step, `test_no_example_moves_...`, in float32; test_accounting,
  `test_the_noise_that_is_solved_for_is_enough_and_the_least`. What is left open stands in the docstring of
  `jaxmlp.private.gradient`.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig, init
from jaxmlp.private import Mechanism, Numbers, Privacy, gradient, train
from jaxmlp.training.examples import Examples

from .test_step import flat

N, SECRET = 60, jax.random.key(3)
MLP_ = MLP((5, 4, 3), "tanh")
PRIVACY = Privacy(noise_multiplier=2.0, clip=0.1, delta=1e-3)
CONFIG = TrainConfig(epochs=1, batch_size=4, learning_rate=1.0, weight_decay=0.0)
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(N, 5)), RNG.integers(0, 3, N)


def trained(x, t=T, privacy=PRIVACY, config=CONFIG, **others):
    return train(MLP_, Dataset(x, t), privacy, config, key=jax.random.key(0), secret=SECRET, **others)


def rows_drawn(mechanism, steps):
    rows, is_drawn = mechanism.draw(jax.random.split(SECRET)[0], range(steps))
    return rows, is_drawn


@pytest.mark.parametrize(
    "mlp", [MLP((5, 6, 3), "relu"), MLP((5, 6, 3), "gelu"), MLP((5, 6, 3), "tanh", "sigmoid", "binary_cross_entropy")]
)
def test_every_example_is_clipped_on_its_own(mlp):
    # So it does not matter which others are in its batch, or in how many parts the sum is computed.
    with jax.enable_x64(True):
        params, everyone = init(mlp, jax.random.key(0)), jnp.arange(8)
        x = jnp.asarray(X[:8] * np.geomspace(0.01, 10, 8)[:, None])

        def of(is_drawn, clip):
            drawn = Examples(jnp.where(is_drawn[:, None], x, 9.0), jnp.where(is_drawn, T[:8], 0), None)
            return flat(gradient(mlp, params, drawn, is_drawn, Numbers(clip, 0.0, 1.0), jax.random.key(0)))

        median = np.median([np.linalg.norm(of(everyone == b, 1e9)) for b in everyone])  # half of them are clipped
        alone = [of(everyone == b, median) for b in everyone]
        whole, halves = of(everyone >= 0, median), [of(everyone % 2 == part, median) for part in (0, 1)]
        np.testing.assert_allclose(whole, sum(alone), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(whole, sum(halves), rtol=1e-12, atol=1e-14)


def test_noise_follows_the_clip_and_the_account_does_not():
    # Where every gradient is clipped, a smaller clip with a larger rate is the same training, noise included.
    with jax.enable_x64(True):
        runs = [
            trained(X, privacy=replace(PRIVACY, clip=clip), config=replace(CONFIG, learning_rate=1e-4 / clip))
            for clip in (1e-4, 1e-6)
        ]
        np.testing.assert_allclose(flat(runs[0].params), flat(runs[1].params), rtol=1e-9)
    assert runs[0].guarantee.epsilon == runs[1].guarantee.epsilon


def test_an_empty_batch_is_a_step_of_noise():
    mechanism, config = Mechanism(8, 1, 2.0, 0.1), replace(CONFIG, batch_size=1, schedule="constant", momentum=0.0)
    _, is_drawn = rows_drawn(mechanism, 8)
    (empty, *_) = np.flatnonzero(~is_drawn.any(axis=1))
    states = []
    with pytest.MonkeyPatch.context() as patched:  # one step an epoch, to see each
        patched.setattr("jaxmlp.private.training.steps_of_epoch", lambda n, config: 1)
        trained(X[:8], T[:8], config=replace(config, epochs=8), callback=lambda each: states.append(flat(each.params)))
    start = init(MLP_, jax.random.key(0))
    leaves = jax.tree.leaves(start)
    keys = jax.random.split(jax.random.fold_in(jax.random.split(SECRET)[1], empty), len(leaves))
    noise = flat([jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])
    moved = states[empty] - (states[empty - 1] if empty else flat(start))
    np.testing.assert_allclose(moved, -2.0 * 0.1 * noise, atol=1e-6)


def test_an_example_without_a_finite_gradient_has_no_influence():
    # Its gradient has no norm in float32; whether it is there, and what it is, changes no bit.
    runs = []
    for number in (1e30, -3e35):
        x, t = X.astype(np.float32), T.copy()
        x[7], t[7] = number, number > 0
        runs.append(trained(x, t, config=replace(CONFIG, batch_size=30)))
    rows, is_drawn = rows_drawn(Mechanism(N, 30, 2.0, 0.1), 2)
    assert np.any((rows == 7) & is_drawn)
    assert np.isfinite(flat(runs[0].params)).all()
    np.testing.assert_array_equal(flat(runs[0].params), flat(runs[1].params))


def test_an_example_that_no_batch_draws_leaves_no_trace():
    rows, is_drawn = rows_drawn(Mechanism(N, 4, 2.0, 0.1), 15)
    never, once = np.setdiff1d(np.arange(N), rows[is_drawn])[0], rows[is_drawn][0]
    runs = []
    for row in (None, never, once):
        x, t = X.copy(), T.copy()
        if row is not None:
            x[row], t[row] = 5.0, (t[row] + 1) % 3
        run = trained(x, t, validation=Dataset(X, T), test=Dataset(X, T))
        (epoch,) = run.history
        others = run._replace(params=None, state=None, history=epoch._replace(seconds=0.0))
        runs.append((flat((run.params, run.state)).tobytes(), others))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
