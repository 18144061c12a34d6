"""The programs of the library, as functions of arrays and the shapes of their arguments: nothing is computed here."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import MLP, TrainConfig, curvature, per_example, sgd, sweep
from jaxmlp.backpropagation import Factors
from jaxmlp.data import Expansion
from jaxmlp.importance import _shuffled_measures
from jaxmlp.influence import _kernel, _output_factors, _scores, _tracin
from jaxmlp.network import Params, init
from jaxmlp.private.step import Numbers
from jaxmlp.private.step import run_epoch as run_private_epoch
from jaxmlp.sweep.block import Shape, key_and_inputs
from jaxmlp.sweep.job import Job
from jaxmlp.sweep.lanes import block_epoch
from jaxmlp.sweep.planning import Group, make_plan
from jaxmlp.sweep.space import trials
from jaxmlp.training.epoch import Hyperparameters, run_epoch, run_networks
from jaxmlp.training.evaluation import measures, outputs
from jaxmlp.training.examples import Examples

__all__ = ["Program", "batch_programs", "block", "data_programs", "epoch", "networks", "private_epoch"]


class Program(NamedTuple):
    """A function, the shapes and dtypes of its arguments, and which of these it overwrites."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def epoch(
    mlp: MLP,
    batch_size: int,
    n_examples: int,
    *,
    clip: bool = False,
    weighted: bool = False,
    compact: bool = False,
    track: tuple[str, ...] = (),
) -> Program:
    """Return an epoch of training; with `compact`, inputs are expanded batch by batch."""
    n_steps = n_examples // batch_size
    numbers = Hyperparameters(_floats(n_steps), _floats(), _floats(), _floats() if clip else None)
    order = _integers(n_steps, batch_size)
    arguments = (*_start(mlp), _examples(mlp, n_examples, weighted, compact), order, numbers)
    return Program(partial(run_epoch, mlp, track=track), arguments, donated=(0, 1))


def private_epoch(mlp: MLP, batch_size: int, n_examples: int) -> Program:
    """Return an epoch of private training, with noise."""
    n_steps = n_examples // batch_size
    batches = _integers(n_steps, batch_size), jax.ShapeDtypeStruct((n_steps, batch_size), bool)
    numbers = Numbers(_floats(), _floats(), _floats())  # type: ignore[arg-type]
    of_all = *_start(mlp), _examples(mlp, n_examples), batches, _integers(n_steps), _floats(n_steps), numbers
    key = jax.eval_shape(lambda: jax.random.key(0))
    return Program(partial(run_private_epoch, mlp), (*of_all, _floats(), _floats(), key))


def block(
    mlp: MLP,
    batch_size: int,
    n_examples: int,
    n_lanes: int,
    device: jax.Device,
    *,
    shared: bool = True,
    n_validation: int = 0,
) -> tuple[Program, Group]:
    """Return an epoch of a sweep's block on a device, and the group of the plan that it belongs to.

    One chunk of `n_lanes` networks that have one batch order, or each its own.
    """
    rows = tuple((0.1 * (1 + i) / n_lanes, 0 if shared else i) for i in range(n_lanes))
    space = sweep.Space(("learning_rate", "seed"), rows)
    listed = trials(space, mlp, TrainConfig(batch_size=batch_size, epochs=1))
    (group,) = make_plan(listed, n_examples, 0, (device,), memory=2**50, lanes=n_lanes, n_evaluated=n_validation).groups
    examples, held = _examples(mlp, n_examples), _examples(mlp, n_validation) if n_validation else None
    job = Job({trial.number: trial for trial in listed}, {}, examples, [examples], [held], None, (device,))
    key, inputs = key_and_inputs(job, group, Shape.of(job, group), device)
    return Program(partial(block_epoch, key), (inputs,)), group


def networks(mlp: MLP, batch_size: int, n_examples: int, n: int) -> Program:
    """Return an epoch of n networks side by side, each with its own batch order, as an accelerator runs it."""
    given = epoch(mlp, batch_size, n_examples)
    params, state, examples, order, numbers = given.arguments
    several: Any = jax.tree.map(lambda leaf: _like(leaf, n, *leaf.shape), (params, state, order))
    return Program(partial(run_networks, mlp, in_turn=False), (*several[:2], examples, several[2], numbers))


def data_programs(mlp: MLP, n_examples: int) -> dict[str, Program]:
    """Return the programs that go through a data set: measures, scores, influences, importance of columns."""
    (params, _), examples = _start(mlp), _examples(mlp, n_examples, weighted=True)
    compact = _examples(mlp, n_examples, compact=True)
    runs = (jax.tree.map(lambda leaf: _like(leaf, 3, *leaf.shape), params), _floats(3))
    part = examples.x, examples.t
    shuffled = jax.ShapeDtypeStruct(mlp.sizes[:1], bool), _integers(2, n_examples)
    return {
        "measures": Program(partial(measures, mlp), (params, examples)),
        "outputs of compact columns": Program(partial(outputs, mlp), (params, compact.x, compact.expansion)),
        "scores": Program(partial(_scores, mlp, with_margins=True), (params, examples)),
        "influences": Program(partial(_tracin, (mlp,), top=3), ((runs,), part, part)),
        "importance": Program(partial(_shuffled_measures, (mlp,)), ((runs[0],), examples, *shuffled)),
    }


def batch_programs(mlp: MLP, n: int) -> dict[str, Program]:
    """Return the programs of one batch: curvature, tangent kernel, statistics of examples from their factors."""
    params, _ = _start(mlp)
    examples = _examples(mlp, n)
    along = params, examples.x, examples.t, params
    factors = tuple(Factors(_floats(n, n_out), _floats(n, n_in)) for n_in, n_out in pairwise(mlp.sizes))
    of_outputs = jax.eval_shape(partial(_output_factors, mlp), params, examples.x)
    found = {
        "Hessian-vector product": Program(partial(curvature.hessian_vector_product, mlp), along),
        "Gauss-Newton-vector product": Program(partial(curvature.gauss_newton_vector_product, mlp), along),
        "Taylor": Program(partial(curvature.taylor, mlp), along),
        "factors of outputs": Program(partial(_output_factors, mlp), (params, examples.x)),
        "tangent kernel": Program(_kernel, (of_outputs, of_outputs)),
        "clipped mean": Program(per_example.clipped_mean, (factors, _floats())),
        "weighted sum": Program(per_example.weighted_sum, (factors, _floats(n))),
        "dots": Program(per_example.dots, (factors, params)),
    }
    of_factors = ("gradients", "norms", "variance", "mean_and_variance", "gram", "cosines", "noise_scale", "kronecker")
    return found | {name: Program(getattr(per_example, name), (factors,)) for name in (*of_factors, "diversity")}


def _start(mlp: MLP) -> tuple[Params, sgd.State]:
    params = jax.eval_shape(lambda: init(mlp, jax.random.key(0), dtype=np.float32))
    return params, sgd.State(params)


def _examples(mlp: MLP, n: int, weighted: bool = False, compact: bool = False) -> Examples:
    """Return a data set of classes; compact, all inputs are bins of the first of two columns."""
    n_inputs = mlp.sizes[0]
    none, bins = np.zeros(0, np.int32), np.zeros(n_inputs, np.int32)
    numbers = np.zeros(n_inputs, np.float32)
    expansion = Expansion(none, np.zeros(0, bool), bins, numbers, numbers, none, none) if compact else None
    x = _floats(n, 2 if compact else n_inputs)
    return Examples(x, _integers(n), _floats(n) if weighted else None, expansion)


def _floats(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, np.float32)


def _integers(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, np.int32)


def _like(leaf: Any, *shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, leaf.dtype)
