"""One epoch of training in jaxmlp and in each of its peers, written as an experienced user of each would write it.

Every `start_...` takes a `Problem` and returns a function that runs one epoch to its end. Two peers go further than
most users would, and are marked "best possible": the whole step (PyTorch) or the whole epoch (Flax) as one compiled
program. They show how much of a difference is the library, and how much the habit.
"""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import nan
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from experiments._timing import torch_device
from experiments.benchmarks._cases import epoch_by_epoch

__all__ = ["OURS", "PEERS", "PRODUCTS", "Epoch", "Peer", "Problem"]

LEARNING_RATE, MOMENTUM = 0.01, 0.9
OURS, PRODUCTS = "jaxmlp", "products"


class Problem(NamedTuple):
    """The task of a peer: x: [N, n_0] float32, t: [N] classes, N a whole number of batches."""

    sizes: tuple[int, ...]
    batch_size: int
    x: np.ndarray
    t: np.ndarray

    @property
    def n_steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.x) // self.batch_size

    @property
    def gflop(self) -> float:
        """The operations of an epoch's matrix products, as `benchmarks.training` counts them, in units of 1e9."""
        first, *others = (n_in * n_out for n_in, n_out in pairwise(self.sizes))
        return 2e-9 * len(self.x) * (2 * first + 3 * sum(others))


# Runs one epoch to its end, on the device too, and returns a loss.
Epoch: TypeAlias = Callable[[], float]


def start_jaxmlp(problem: Problem) -> Epoch:
    from jaxmlp import MLP, Dataset, TrainConfig

    config = TrainConfig(
        batch_size=problem.batch_size,
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=0.0,
        schedule="constant",
    )
    return epoch_by_epoch(MLP(problem.sizes), Dataset(problem.x, problem.t), config)


def _torch_network(sizes: tuple[int, ...]) -> Any:
    from torch import nn

    layers = [layer for n_in, n_out in pairwise(sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).to(torch_device())


def _torch_epoch(problem: Problem, step: Callable[[Any, Any], Any]) -> Epoch:
    import torch

    device = torch_device()
    x, t = torch.from_numpy(problem.x).to(device), torch.from_numpy(problem.t).to(device)

    def epoch() -> float:
        # Shuffled whole, then sliced: a tenth faster than gathering every batch by its indices.
        order = torch.randperm(len(x), device=device)
        batches = zip(x[order].split(problem.batch_size), t[order].split(problem.batch_size), strict=True)
        for batch in batches:
            loss = step(*batch)
        return loss.item()  # waits for the device

    return epoch


def _torch_step(problem: Problem) -> Callable[[Any, Any], Any]:
    import torch

    network = _torch_network(problem.sizes)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(network(x), t)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def start_torch(problem: Problem) -> Epoch:
    return _torch_epoch(problem, _torch_step(problem))


def start_torch_compiled(problem: Problem) -> Epoch:
    import torch

    logging.getLogger("torch").setLevel(logging.ERROR)  # its advice on how to compile is not for this table
    # Forward, backward and update become three programs; on a GPU they are recorded, so that launching is cheap.
    mode = "reduce-overhead" if torch_device().type == "cuda" else "default"
    return _torch_epoch(problem, torch.compile(_torch_step(problem), mode=mode))


def start_torch_functional(problem: Problem) -> Epoch:
    import torch
    from torch.func import functional_call, grad_and_value

    network = _torch_network(problem.sizes)
    params = {name: value.detach().clone() for name, value in network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}

    def loss(params: dict[str, Any], x: Any, t: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(network, params, (x,)), t)

    @torch.compile
    def step(params: dict[str, Any], velocity: dict[str, Any], x: Any, t: Any) -> Any:
        gradient, value = grad_and_value(loss)(params, x, t)
        for name in params:
            velocity[name].mul_(MOMENTUM).add_(gradient[name])
            params[name].sub_(velocity[name], alpha=LEARNING_RATE)
        return value

    return _torch_epoch(problem, partial(step, params, velocity))


def start_sklearn(problem: Problem) -> Epoch:
    from sklearn import config_context
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        problem.sizes[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=problem.batch_size,
        learning_rate_init=LEARNING_RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = np.arange(problem.sizes[-1])

    def epoch() -> float:
        # An epoch of `fit`, which would check the data but once, so the search for nan is left out. (`warm_start`
        # would forget the momentum at every call.)
        with config_context(assume_finite=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return network.partial_fit(problem.x, problem.t, classes=classes).loss_

    return epoch


def _flax_start(problem: Problem) -> tuple[Callable[..., Any], list[Any]]:
    """Return a step (params, state, x, t) -> (params, state, loss), and what it begins with."""
    import jax
    import optax
    from flax import linen as nn

    hidden = [layer for n in problem.sizes[1:-1] for layer in (nn.Dense(n), nn.relu)]
    network = nn.Sequential([*hidden, nn.Dense(problem.sizes[-1])])
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def loss(params: Any, x: Any, t: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(params, x), t).mean()

    def step(params: Any, state: Any, x: Any, t: Any) -> tuple[Any, Any, Any]:
        value, gradient = jax.value_and_grad(loss)(params, x, t)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.jit(network.init)(jax.random.key(0), problem.x[:1])
    return step, [params, optimizer.init(params)]


def _batch_orders(problem: Problem, random: np.random.Generator) -> np.ndarray:
    # NumPy's: jax.random.permutation takes fifty times as long.
    return random.permutation(len(problem.x)).astype(np.int32).reshape(problem.n_steps, problem.batch_size)


def start_flax(problem: Problem) -> Epoch:
    import jax

    step, begin = _flax_start(problem)
    x, t = jax.device_put(problem.x), jax.device_put(problem.t.astype(np.int32))
    random = np.random.default_rng(0)
    carry = (*begin, None)

    # Rows are gathered inside: up to a sixth faster than handing over each batch from the host.
    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled_step(params: Any, state: Any, x: Any, t: Any, rows: Any) -> tuple[Any, Any, Any]:
        return step(params, state, x[rows], t[rows])

    def epoch() -> float:
        nonlocal carry
        for rows in _batch_orders(problem, random):
            carry = compiled_step(*carry[:2], x, t, rows)
        return float(jax.block_until_ready(carry)[2])

    return epoch


def start_flax_scan(problem: Problem) -> Epoch:
    import jax

    step, begin = _flax_start(problem)
    x, t = jax.device_put(problem.x), jax.device_put(problem.t.astype(np.int32))
    random = np.random.default_rng(0)
    carry = (*begin, None)

    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled_epoch(params: Any, state: Any, x: Any, t: Any, order: Any) -> tuple[Any, Any, Any]:
        def scanned(carry: tuple[Any, Any], rows: Any) -> tuple[tuple[Any, Any], Any]:
            params, state, loss = step(*carry, x[rows], t[rows])
            return (params, state), loss

        (params, state), losses = jax.lax.scan(scanned, (params, state), order)
        return params, state, losses[-1]

    def epoch() -> float:
        nonlocal carry
        carry = compiled_epoch(*carry[:2], x, t, _batch_orders(problem, random))
        return float(jax.block_until_ready(carry)[2])

    return epoch


def start_products(problem: Problem) -> Epoch:
    """Run an epoch's matrix products and nothing else: no activation, loss or update; outputs serve as deltas."""
    import jax

    random = np.random.default_rng(0)
    weights = tuple(
        random.standard_normal((n_out, n_in), np.float32) / np.float32(n_in**0.5)
        for n_in, n_out in pairwise(problem.sizes)
    )
    x = jax.device_put(problem.x.reshape(problem.n_steps, problem.batch_size, -1))

    # Each step has its own batch, or the compiler would see that all compute the same, and compute it once.
    @jax.jit
    def products(weights: tuple[Any, ...], x: Any) -> Any:
        return jax.lax.scan(lambda _, batch: (_step_products(weights, batch), None), weights, x)[0]

    weights = jax.device_put(weights)

    def epoch() -> float:
        jax.block_until_ready(products(weights, x))
        return nan

    return epoch


def _step_products(weights: tuple[Any, ...], x: Any) -> tuple[Any, ...]:
    y = [x]
    for w in weights:
        y.append(y[-1] @ w.T)
    delta, gradient = y[-1], []
    for layer in reversed(range(len(weights))):
        gradient.append(delta.T @ y[layer])  # (8)
        if layer:
            delta = delta @ weights[layer]  # (7)
    return tuple(reversed(gradient))


class Peer(NamedTuple):
    """A row of the tables: its title, the modules it trains with, and what makes an `Epoch` of a `Problem`."""

    title: str
    modules: tuple[str, ...]
    start: Callable[[Problem], Epoch]


PEERS = {
    OURS: Peer("jaxmlp", ("jax", "jaxmlp.training"), start_jaxmlp),
    "torch": Peer("PyTorch", ("torch",), start_torch),
    "torch-compiled": Peer("PyTorch, torch.compile", ("torch",), start_torch_compiled),
    "torch-functional": Peer("PyTorch, compiled step (best possible)", ("torch",), start_torch_functional),
    "scikit-learn": Peer("scikit-learn", ("sklearn.neural_network",), start_sklearn),
    "flax": Peer("Flax with optax", ("jax", "flax.linen", "optax"), start_flax),
    "flax-scan": Peer("Flax with optax, scan (best possible)", ("jax", "flax.linen", "optax"), start_flax_scan),
    PRODUCTS: Peer("the matrix products alone, JAX", ("jax",), start_products),
}
