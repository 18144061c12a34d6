"""The per-example benchmark's steps in PyTorch: plain, and of Opacus and BackPACK."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from experiments._timing import torch_device
from experiments.benchmarks.peers.per_example_problem import LEARNING_RATE, NOISE_MULTIPLIER, Problem, Start, Step

__all__ = ["BACKPACK_STEPS", "GHOST_STEPS", "OPACUS_STEPS", "TORCH_STEPS"]


class _Setup(NamedTuple):
    """The network and the batch of every peer on PyTorch, on its device."""

    network: Any
    optimizer: Any
    x: Any
    t: Any

    @property
    def params(self) -> list[Any]:
        return list(self.network.parameters())


def _setup(problem: Problem) -> _Setup:
    import torch
    from torch import nn

    # Of the hooks of Opacus and BackPACK, when the input needs no gradient: it is what they are made for.
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    device = torch_device()
    layers = [layer for n_in, n_out in pairwise(problem.sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    network = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for param, weight in zip(network.parameters(), problem.weights, strict=True):
            param.copy_(torch.tensor(weight))
    network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    return _Setup(network, optimizer, torch.tensor(problem.x, device=device), torch.tensor(problem.t, device=device))


def _torch_step(
    setup: _Setup,
    network: Any,
    optimizer: Any,  # none: no update
    answer: Callable[[], list[Any]],  # read between the backward pass and the update
    loss: Callable[[Any, Any], Any] | None = None,
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Step:
    import torch

    loss = loss or torch.nn.CrossEntropyLoss()

    def step() -> list[Any]:
        with within():
            loss(network(setup.x), setup.t).backward()
        result = answer()
        if optimizer:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        network.zero_grad(set_to_none=True)  # now, not when the next step begins: who waits for a turn keeps nothing
        if setup.x.is_cuda:
            torch.cuda.synchronize()
        return result

    return step


def start_torch(problem: Problem) -> Step:
    setup = _setup(problem)
    return _torch_step(setup, setup.network, setup.optimizer, lambda: setup.params)


def start_opacus_norms(problem: Problem) -> Step:
    import torch
    from opacus import GradSampleModule

    setup = _setup(problem)

    def norms() -> list[Any]:
        layers = [param.grad_sample.flatten(1).norm(dim=1) for param in setup.params]
        return [torch.stack(layers).norm(dim=0)]

    return _torch_step(setup, GradSampleModule(setup.network), setup.optimizer, norms)


def start_opacus_clipped(problem: Problem, noise_multiplier: float = 0.0) -> Step:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    setup = _setup(problem)
    network = GradSampleModule(setup.network)
    optimizer = DPOptimizer(
        setup.optimizer,
        noise_multiplier=noise_multiplier,
        max_grad_norm=problem.max_norm,
        expected_batch_size=len(problem.x),
    )
    return _torch_step(setup, network, optimizer, lambda: setup.params)


def start_opacus_gradients(problem: Problem) -> Step:
    from opacus import GradSampleModule

    setup = _setup(problem)
    network = GradSampleModule(setup.network)
    return _torch_step(setup, network, None, lambda: [param.grad_sample for param in setup.params])


def start_ghost_norms(problem: Problem) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    setup = _setup(problem)
    network = GradSampleModuleFastGradientClipping(setup.network)
    return _torch_step(setup, network, setup.optimizer, lambda: [network.get_norm_sample()])


def start_ghost_clipped(problem: Problem, noise_multiplier: float = 0.0) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
    from torch.nn import CrossEntropyLoss

    setup = _setup(problem)
    network = GradSampleModuleFastGradientClipping(setup.network, max_grad_norm=problem.max_norm)
    optimizer = DPOptimizerFastGradientClipping(
        setup.optimizer,
        noise_multiplier=noise_multiplier,
        max_grad_norm=problem.max_norm,
        expected_batch_size=len(problem.x),
    )
    loss = DPLossFastGradientClipping(network, optimizer, CrossEntropyLoss())
    return _torch_step(setup, network, optimizer, lambda: setup.params, loss)


def _start_backpack(problem: Problem, extension: str, answer: Callable[[list[Any]], list[Any]], sums: bool) -> Step:
    """Return a step that answers with what an extension left on every parameter; a sum of losses is not descended."""
    import backpack
    import torch
    from backpack import extensions

    setup = _setup(problem)
    network = backpack.extend(setup.network)
    extended = getattr(extensions, extension)()

    def saved() -> list[Any]:
        values = [getattr(param, extended.savefield) for param in setup.params]
        for param in setup.params:
            delattr(param, extended.savefield)
        return answer(values)

    loss = torch.nn.CrossEntropyLoss(reduction="sum" if sums else "mean")
    optimizer = None if sums else setup.optimizer
    return _torch_step(setup, network, optimizer, saved, loss, partial(backpack.backpack, extended))


def start_backpack_norms(problem: Problem) -> Step:
    # BackPACK speaks of each example's part of the loss: of the mean, it is 1/B of the example's own.
    n_examples = len(problem.x)
    return _start_backpack(problem, "BatchL2Grad", lambda squares: [n_examples * sum(squares).sqrt()], sums=False)


def start_backpack_variance(problem: Problem) -> Step:
    scale = len(problem.x) ** 2
    return _start_backpack(problem, "Variance", lambda layers: [scale * layer for layer in layers], sums=False)


def start_backpack_gradients(problem: Problem) -> Step:
    return _start_backpack(problem, "BatchGrad", lambda layers: layers, sums=True)


def start_backpack_clipped(problem: Problem) -> Step:
    """Norms first, then a second backward pass of the weighted losses, so that no gradients are formed."""
    import backpack
    from backpack.extensions import BatchL2Grad
    from torch.nn.functional import cross_entropy

    setup = _setup(problem)
    network = backpack.extend(setup.network)

    def clipped_loss(y: Any, t: Any) -> Any:
        losses = cross_entropy(y, t, reduction="none")
        with backpack.backpack(BatchL2Grad(), retain_graph=True):
            losses.sum().backward(retain_graph=True)
        norms = sum(param.batch_l2 for param in setup.params).sqrt()
        setup.optimizer.zero_grad(set_to_none=True)
        return ((problem.max_norm / norms).clamp(max=1) * losses).mean()

    return _torch_step(setup, network, setup.optimizer, lambda: setup.params, clipped_loss)


TORCH_STEPS: dict[str, Start] = {"plain": start_torch}
OPACUS_STEPS: dict[str, Start] = {
    "norms": start_opacus_norms,
    "clipped": start_opacus_clipped,
    "private": partial(start_opacus_clipped, noise_multiplier=NOISE_MULTIPLIER),
    "gradients": start_opacus_gradients,
}
GHOST_STEPS: dict[str, Start] = {
    "norms": start_ghost_norms,
    "clipped": start_ghost_clipped,
    "private": partial(start_ghost_clipped, noise_multiplier=NOISE_MULTIPLIER),
}
BACKPACK_STEPS: dict[str, Start] = {
    "norms": start_backpack_norms,
    "clipped": start_backpack_clipped,
    "variance": start_backpack_variance,
    "gradients": start_backpack_gradients,
}
