"""A sweep in jaxmlp and in each of its peers, written as an experienced user of each would write it.

A `Peer`'s `start` takes a number of threads, where the peer lets one choose, and returns a function that trains all
networks of a `Problem`, to the end. That one returns a function in turn, which says how well they do: the mean
accuracy on the training data. It belongs to no timing, and shows that all peers do the same kind of work.
"""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from experiments._timing import cores

__all__ = ["JOBLIB", "OURS", "PEERS", "VMAP", "Peer", "Problem", "Run"]

OURS, JOBLIB, VMAP = "jaxmlp", "scikit-learn", "vmap"


class Trial(NamedTuple):
    """The hyperparameters of one network."""

    learning_rate: float
    momentum: float
    seed: int


class Problem(NamedTuple):
    """The task of a peer: a grid of trials, and x: [N, n_0] float32, t: [N] classes, N a whole number of batches."""

    sizes: tuple[int, ...]
    batch_size: int
    epochs: int
    learning_rates: tuple[float, ...]
    momenta: tuple[float, ...]
    seeds: tuple[int, ...]
    x: np.ndarray
    t: np.ndarray

    @property
    def trials(self) -> list[Trial]:
        """Every combination."""
        return [Trial(*values) for values in product(self.learning_rates, self.momenta, self.seeds)]

    @property
    def n_networks(self) -> int:
        """The number of trials."""
        return len(self.learning_rates) * len(self.momenta) * len(self.seeds)

    @property
    def n_steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.x) // self.batch_size

    @property
    def gflop(self) -> float:
        """The operations of the sweep's matrix products in units of 1e9, two for each multiply-add.

        By example and layer: z_l = w_l y_{l-1}, n_{l-1} n_l multiply-adds; as many for grad w_l = delta_l outer
        y_{l-1}, eq. (8); and for w_l^T delta_l, eq. (7), which the input layer has no use for.
        """
        first, *others = (n_in * n_out for n_in, n_out in pairwise(self.sizes))
        return 2e-9 * self.n_networks * self.epochs * len(self.x) * (2 * first + 3 * sum(others))

    def again(self, call: int) -> "Problem":
        """Return a sweep of as many other networks: what a second call may be spared is compilation, not work."""
        return self._replace(
            learning_rates=tuple(rate * 0.99**call for rate in self.learning_rates),
            momenta=tuple(momentum * 0.99**call for momentum in self.momenta),
            seeds=tuple(seed + call * len(self.seeds) for seed in self.seeds),
        )


Layers: TypeAlias = list[tuple[np.ndarray, np.ndarray]]  # of one network: w: [n_in, n_out], b: [n_out]
Run: TypeAlias = Callable[[Problem], Callable[[], float]]


def mean_accuracy(problem: Problem, networks: list[Layers]) -> float:
    """Return the share of training examples that a network has right, in the mean over the networks."""
    right = []
    for *hidden, (w, b) in networks:
        y = problem.x
        for w_hidden, b_hidden in hidden:
            y = np.maximum(y @ w_hidden + b_hidden, 0)
        right.append(((y @ w + b).argmax(1) == problem.t).mean())
    return float(np.mean(right))


def start_jaxmlp(_threads: int) -> Run:
    from jaxmlp import MLP, Dataset, TrainConfig, sweep

    def run(problem: Problem) -> Callable[[], float]:
        data, mlp = Dataset(problem.x, problem.t), MLP(problem.sizes)
        config = TrainConfig(
            epochs=problem.epochs, batch_size=problem.batch_size, schedule="constant", weight_decay=0.0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of axes with a single value
            space = sweep.grid(learning_rate=problem.learning_rates, momentum=problem.momenta, seed=problem.seeds)
        sweep.run(space, data, config, mlp=mlp).table()

        def accuracy() -> float:
            # Not of the parameters, of which only the best networks' are kept.
            scored = sweep.run(space, data, config, mlp=mlp, validation=data).table()
            return float(np.mean(scored["validation_accuracy"].to_numpy()))

        return accuracy

    return run


def start_vmap(_threads: int) -> Run:
    """Write in twenty lines what JAX's `vmap` makes of our own step: everything inside of one program."""
    import jax
    import jax.numpy as jnp

    from jaxmlp import MLP, init, loss_and_gradient, sgd

    def train(
        mlp: MLP, batch_size: int, epochs: int, x: Any, t: Any, learning_rate: Any, momentum: Any, seed: Any
    ) -> Any:
        def step(carry: tuple[Any, Any], rows: Any) -> tuple[tuple[Any, Any], Any]:
            params, state = carry
            loss, gradient = loss_and_gradient(mlp, params, x[rows], t[rows])
            return sgd.update(params, state, gradient, learning_rate=learning_rate, momentum=momentum), loss

        def epoch(carry: tuple[Any, Any], key: Any) -> tuple[tuple[Any, Any], Any]:
            order = jax.random.permutation(key, len(x)).reshape(-1, batch_size)
            return jax.lax.scan(step, carry, order)

        key_weights, key_order = jax.random.split(jax.random.key(seed))
        params = init(mlp, key_weights)
        (params, _), losses = jax.lax.scan(epoch, (params, sgd.init(params)), jax.random.split(key_order, epochs))
        return params, losses

    @partial(jax.jit, static_argnums=(0, 1, 2))
    def train_all(mlp: MLP, batch_size: int, epochs: int, x: Any, t: Any, *trials: Any) -> Any:
        return jax.vmap(partial(train, mlp, batch_size, epochs, x, t))(*trials)

    def run(problem: Problem) -> Callable[[], float]:
        columns = [jnp.asarray(column) for column in zip(*problem.trials, strict=True)]
        static = MLP(problem.sizes), problem.batch_size, problem.epochs
        params, _ = jax.block_until_ready(train_all(*static, problem.x, problem.t, *columns))

        def accuracy() -> float:
            stacked = [(np.asarray(w).swapaxes(1, 2), np.asarray(b)) for w, b in params]
            return mean_accuracy(problem, _unstacked(stacked))

        return accuracy

    return run


def _unstacked(stacked: Layers) -> list[Layers]:
    return [[(w[i], b[i]) for w, b in stacked] for i in range(len(stacked[0][0]))]


def _fit_sklearn(problem: Problem, trial: Trial) -> Layers:
    from sklearn import config_context
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        problem.sizes[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=problem.batch_size,
        learning_rate_init=trial.learning_rate,
        momentum=trial.momentum,
        nesterovs_momentum=False,
        max_iter=problem.epochs,
        tol=0.0,
        n_iter_no_change=problem.epochs + 1,  # never stops early
        random_state=trial.seed,
    )
    # Warns that it has not converged, and would look for nan in data that are known to have none.
    with config_context(assume_finite=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(problem.x, problem.t)
    return list(zip(network.coefs_, network.intercepts_, strict=True))


def start_sklearn(threads: int) -> Run:
    return _start_workers(_fit_sklearn, threads)


def _start_workers(fit: Callable[[Problem, Trial], Layers], threads: int) -> Run:
    from joblib.externals.loky import get_reusable_executor

    # Else the process would not end before its idle workers do, after five minutes. Before any other clean-up.
    Finalize(None, lambda: get_reusable_executor(reuse=True).shutdown(), exitpriority=100)
    return partial(_run_in_workers, fit, threads)


def _run_in_workers(fit: Callable[[Problem, Trial], Layers], threads: int, problem: Problem) -> Callable[[], float]:
    from joblib import Parallel, delayed, parallel_config

    # What else `Parallel` can be told (tasks a batch, dispatch of all at once, data in shared memory below 1 MB) made
    # no difference beyond noise.
    with parallel_config(backend="loky", inner_max_num_threads=threads):
        networks = Parallel(n_jobs=cores())(delayed(fit)(problem, trial) for trial in problem.trials)
    return partial(mean_accuracy, problem, networks)


def _torch_network(sizes: tuple[int, ...]) -> Any:
    from torch import nn

    layers = [layer for n_in, n_out in pairwise(sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    for linear in layers[::2]:
        # As ours are drawn: from its smaller default weights, networks of two hidden layers would be a tenth less
        # accurate after these few epochs.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    return nn.Sequential(*layers[:-1])


def _torch_examples(problem: Problem) -> tuple[Any, Any]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's shared arrays are read-only
        return torch.from_numpy(problem.x), torch.from_numpy(problem.t)


def _fit_torch(problem: Problem, trial: Trial) -> Layers:
    import torch
    from torch.nn.functional import cross_entropy

    random = torch.manual_seed(trial.seed)
    network = _torch_network(problem.sizes)
    # "fused" is the fastest of its three implementations, by up to two fifths.
    optimizer = torch.optim.SGD(network.parameters(), lr=trial.learning_rate, momentum=trial.momentum, fused=True)
    x, t = _torch_examples(problem)
    for _ in range(problem.epochs):
        order = torch.randperm(len(x), generator=random)
        for batch in zip(x[order].split(problem.batch_size), t[order].split(problem.batch_size), strict=True):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(network(batch[0]), batch[1]).backward()
            optimizer.step()
    params = [param.detach().numpy() for param in network.parameters()]
    return [(w.T, b) for w, b in zip(params[::2], params[1::2], strict=True)]


def start_torch(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)

    def run(problem: Problem) -> Callable[[], float]:
        return partial(mean_accuracy, problem, [_fit_torch(problem, trial) for trial in problem.trials])

    return run


def _fit_torch_in_worker(problem: Problem, trial: Trial) -> Layers:
    import torch

    torch.set_num_threads(1)  # a worker a core
    return _fit_torch(problem, trial)


def start_torch_workers(_threads: int) -> Run:
    return _start_workers(_fit_torch_in_worker, 1)


def start_torch_ensemble(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    return _run_torch_ensemble


def _run_torch_ensemble(problem: Problem) -> Callable[[], float]:
    """Train all at once: [S, G, ...], G networks of each seed, which share its weights and its batch order."""
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap
    from torch.nn.functional import cross_entropy

    rates, momenta = torch.tensor([*product(problem.learning_rates, problem.momenta)]).T
    randoms = [torch.Generator().manual_seed(seed) for seed in problem.seeds]
    networks = []
    for seed in problem.seeds:
        torch.manual_seed(seed)
        networks.append(_torch_network(problem.sizes))
    params = {
        name: value.detach()[:, None].repeat(1, len(rates), *[1] * (value.ndim - 1))
        for name, value in stack_module_state(networks)[0].items()
    }
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}
    rate_of, momentum_of = (
        {name: column.reshape(-1, *[1] * (value.ndim - 2)) for name, value in params.items()}
        for column in (rates, momenta)
    )

    def loss(params: dict[str, Any], x: Any, t: Any) -> Any:
        return cross_entropy(functional_call(networks[0], params, (x,)), t)

    # Inside of it x is not batched. Against one flat vmap, a quarter faster where the network is small, and a tenth
    # slower where it is large.
    gradients = vmap(vmap(grad(loss), in_dims=(0, None, None)))
    x, t = _torch_examples(problem)
    for _ in range(problem.epochs):
        orders = torch.stack([torch.randperm(len(x), generator=random) for random in randoms])
        for rows in orders.split(problem.batch_size, dim=1):
            for name, gradient in gradients(params, x[rows], t[rows]).items():
                velocity[name].mul_(momentum_of[name]).add_(gradient)
                params[name].addcmul_(rate_of[name], velocity[name], value=-1)

    def accuracy() -> float:
        flat = [value.flatten(0, 1).numpy() for value in params.values()]
        stacked = [(w.swapaxes(1, 2), b) for w, b in zip(flat[::2], flat[1::2], strict=True)]
        return mean_accuracy(problem, _unstacked(stacked))

    return accuracy


class Peer(NamedTuple):
    """A row of the tables: its title, the modules it trains with, how it starts, and whether it lets choose threads."""

    title: str
    modules: tuple[str, ...]
    start: Callable[[int], Run]
    has_threads: bool = True


_SKLEARN = ("joblib", "sklearn.neural_network")

PEERS = {
    OURS: Peer("jaxmlp", ("jax", "jaxmlp.training", "jaxmlp.sweep", "polars"), start_jaxmlp, has_threads=False),
    JOBLIB: Peer("scikit-learn, joblib", _SKLEARN, start_sklearn),
    "torch": Peer("PyTorch, one after another", ("torch",), start_torch),
    "torch-joblib": Peer("PyTorch, joblib", ("torch", "joblib"), start_torch_workers, has_threads=False),
    "torch-ensemble": Peer("PyTorch, torch.func", ("torch", "torch.func"), start_torch_ensemble),
    VMAP: Peer("JAX, plain vmap", ("jax", "jaxmlp.training"), start_vmap, has_threads=False),
}
