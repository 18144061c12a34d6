"""A recipe for training on images, written as an experienced user of each of three libraries would write it.

Every `start` returns a `Learner`, which runs one epoch at a time. All three get the same network, the same steps, the
same extra examples (every time an image is seen it may be mirrored left to right and shifted by a pixel), and the same
schedule of learning rates where they have one: scikit-learn's rate is constant. Only jaxmlp knows per-example clipping.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from experiments._timing import torch_device
from jaxmlp import MLP, Dataset, TrainConfig, data, sgd
from jaxmlp.data import Source
from jaxmlp.network import Params
from jaxmlp.training.config import learning_rates
from jaxmlp.training.epoch import Hyperparameters, batch_order, start, step_gradient
from jaxmlp.training.evaluation import outputs
from jaxmlp.training.examples import Examples

__all__ = ["LIBRARIES", "Images", "Learner", "Recipe", "images", "positions"]


@dataclass(frozen=True)
class Recipe:
    """The network and the training of a record; the epochs follow from the budget.

    Attributes
    ----------
    hidden, activation
        Sizes and activation of the hidden layers.
    config
        Batch size, learning rate, momentum, weight decay, schedule.
    mirror
        Whether an image is seen mirrored every other time.
    shift
        Largest shift of an image in pixels, up or down and left or right.
    """

    hidden: tuple[int, ...] = (512, 512)
    activation: str = "relu"
    config: TrainConfig = TrainConfig(batch_size=128, learning_rate=0.05)  # noqa: RUF009 (it is frozen)
    mirror: bool = True
    shift: int = 0

    def __str__(self) -> str:
        """Write it in one line."""
        config = self.config
        parts = {
            f"{'-'.join(map(str, self.hidden)) or 'no hidden layer'}, {self.activation}": True,
            f"batch {config.batch_size}, rate {config.learning_rate:g}": True,
            f"momentum {config.momentum:g}": True,
            "Nesterov's": config.nesterov,
            f"weight decay {config.weight_decay:g}, {config.schedule}": True,
            f"clip {config.clip}": config.clip is not None,
            "mirrored": self.mirror,
            f"shifted by {self.shift}": self.shift > 0,
        }
        return ", ".join(part for part, holds in parts.items() if holds)


class Images(NamedTuple):
    """A training part and what is held out: x: [N, pixels] float32, t: [N] classes; `shape` is (height, width)."""

    train: Dataset
    test: Dataset
    shape: tuple[int, int]

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of inputs and of outputs of a network for these images."""
        return self.train.x.shape[1], int(np.max(self.train.t)) + 1


class Learner(NamedTuple):
    """A network in training: `epoch` trains for one more, `predict` maps x: [N, pixels] to classes [N]."""

    epoch: Callable[[], None]
    predict: Callable[[np.ndarray], np.ndarray]


def images(source: Source, n_train: int | None = None, validate: int = 0) -> Images:
    """Return scaled images, the first `n_train` of them to train with.

    With `validate`, that many of the last training images are held out instead of the test part.
    """
    train, _, test, _ = data.prepare(source)
    n_kept = len(train) - validate
    held_out = Dataset(train.x[n_kept:], train.t[n_kept:]) if validate else test
    kept = Dataset(train.x[: n_train or n_kept], train.t[: n_train or n_kept])
    return Images(kept, held_out, source.image_shape or (1, train.x.shape[1]))


def positions(shape: tuple[int, int], mirror: bool, shift: int) -> np.ndarray:
    """Return the indices of each variant's pixels in an image with a border of `shift` pixels: [variants, pixels].

    >>> positions((1, 3), mirror=True, shift=0)
    array([[0, 1, 2],
           [2, 1, 0]], dtype=int32)
    """
    height, width = shape
    places = np.arange((height + 2 * shift) * (width + 2 * shift), dtype=np.int32).reshape(height + 2 * shift, -1)
    starts = range(2 * shift + 1)
    windows = [places[top : top + height, left : left + width] for top in starts for left in starts]
    windows += [window[:, ::-1] for window in windows] if mirror else []
    return np.stack([window.ravel() for window in windows])


def _bordered(all_images: Images, recipe: Recipe) -> np.ndarray:
    x = np.asarray(all_images.train.x, np.float32)
    border = ((0, 0), *[(recipe.shift, recipe.shift)] * 2)
    return np.pad(x.reshape(-1, *all_images.shape), border, constant_values=x.min()).reshape(len(x), -1)


class _Plan:
    """The order, learning rates and variants of every epoch, for all three libraries alike."""

    def __init__(self, recipe: Recipe, epochs: int, examples: Images, seed: int) -> None:
        self.config = replace(recipe.config, epochs=epochs)
        self.positions = positions(examples.shape, recipe.mirror, recipe.shift)
        self.n_examples, self.key, self.epoch = len(examples.train), jax.random.key(seed), 0

    def next(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the next epoch's rows [steps, B], rates [steps], and the variant in which each row is seen."""
        order = batch_order(self.key, self.epoch, self.n_examples, self.config.batch_size)
        rates = learning_rates(self.config, self.epoch, len(order)).astype(np.float32)
        seed = np.asarray(jax.random.key_data(self.key)).tolist()
        random = np.random.default_rng([1, *seed, self.epoch])
        self.epoch += 1
        return order, rates, random.integers(len(self.positions), size=order.shape, dtype=np.int32)


def start_jaxmlp(recipe: Recipe, epochs: int, examples: Images, seed: int) -> Learner:
    plan, config = _Plan(recipe, epochs, examples, seed), recipe.config
    n_in, n_out = examples.sizes
    mlp = MLP((n_in, *recipe.hidden, n_out), recipe.activation)
    x, t, places = map(jnp.asarray, (_bordered(examples, recipe), examples.train.t, plan.positions))
    carry = start(mlp, plan.key, config.init_scale)

    def epoch() -> None:
        nonlocal carry
        order, rates, variants = plan.next()
        numbers = Hyperparameters(rates, config.momentum, config.weight_decay, config.clip)
        carry = _epoch(mlp, carry, x, t, places, order, variants, numbers, nesterov=config.nesterov)
        jax.block_until_ready(carry)

    return Learner(epoch, lambda x: np.asarray(outputs(mlp, carry[0], x)).argmax(1))


@partial(jax.jit, static_argnames=("mlp", "nesterov"), donate_argnames="carry")
def _epoch(
    mlp: MLP,
    carry: tuple[Params, sgd.State],
    x: Array,
    t: Array,
    places: Array,
    order: Array,
    variants: Array,
    numbers: Hyperparameters,
    *,
    nesterov: bool,
) -> tuple[Params, sgd.State]:
    """Run one epoch as one scan: what `jaxmlp.train` does, of images that look different every time they are seen."""

    def step(
        carry: tuple[Params, sgd.State], batch: tuple[Array, Array, Array]
    ) -> tuple[tuple[Params, sgd.State], None]:
        rows, variants, eta = batch
        # Row by row: one gather of all pixels of a batch takes twice the time.
        seen = jax.vmap(lambda image, places: image[places])(x[rows], places[variants])
        _, gradient, _ = step_gradient(mlp, carry[0], Examples(seen, t[rows], None), numbers.clip)
        numbers_of_step = {"momentum": numbers.momentum, "weight_decay": numbers.weight_decay, "nesterov": nesterov}
        return sgd.update(*carry, gradient, learning_rate=eta, **numbers_of_step), None

    return lax.scan(step, carry, (order, variants, numbers.learning_rates))[0]


def start_torch(recipe: Recipe, epochs: int, examples: Images, seed: int) -> Learner:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    device, plan, config = torch_device(), _Plan(recipe, epochs, examples, seed), recipe.config
    n_in, n_out = examples.sizes
    activation = {"relu": nn.ReLU, "gelu": partial(nn.GELU, approximate="tanh"), "silu": nn.SiLU}[recipe.activation]
    pairs = pairwise((n_in, *recipe.hidden, n_out))
    layers = [layer for n_from, n_to in pairs for layer in (nn.Linear(n_from, n_to), activation())]
    network = nn.Sequential(*layers[:-1]).to(device)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim == 2], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim == 1]},
    ]
    optimizer = torch.optim.SGD(groups, config.learning_rate, config.momentum, nesterov=config.nesterov)
    cross_entropy = nn.CrossEntropyLoss()
    arrays = (_bordered(examples, recipe), np.asarray(examples.train.t, np.int64), plan.positions.astype(np.int64))
    x, t, places = (torch.from_numpy(array).to(device) for array in arrays)

    def epoch() -> None:
        for rows, rate, variants in zip(*plan.next(), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            rows, variants = torch.from_numpy(rows), torch.from_numpy(variants)
            seen = x[rows].gather(1, places[variants]) if len(places) > 1 else x[rows]
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(network(seen), t[rows]).backward()
            optimizer.step()

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(np.array(x, np.float32)).to(device)).argmax(1).cpu().numpy()

    return Learner(epoch, predict)


def start_sklearn(recipe: Recipe, epochs: int, examples: Images, seed: int) -> Learner:
    from sklearn import config_context
    from sklearn.neural_network import MLPClassifier

    plan, config = _Plan(recipe, epochs, examples, seed), recipe.config
    x, t, classes = _bordered(examples, recipe), np.asarray(examples.train.t), np.arange(examples.sizes[1])
    network = MLPClassifier(
        recipe.hidden,
        activation=recipe.activation,
        solver="sgd",
        alpha=config.weight_decay * config.batch_size,  # it divides by the examples of a batch
        batch_size=config.batch_size,
        learning_rate_init=config.learning_rate,
        momentum=config.momentum,
        nesterovs_momentum=config.nesterov,
        random_state=seed,
    )

    def epoch() -> None:
        order, _, variants = plan.next()
        seen = np.take_along_axis(x[order.ravel()], plan.positions[variants.ravel()], 1)
        # An epoch of `fit`, which would check the data but once, so the search for nan is left out.
        with config_context(assume_finite=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.partial_fit(seen, t[order.ravel()], classes=classes)

    return Learner(epoch, lambda x: network.predict(np.asarray(x, np.float32)))


LIBRARIES: dict[str, Callable[[Recipe, int, Images, int], Learner]] = {
    "jaxmlp": start_jaxmlp,
    "PyTorch": start_torch,
    "scikit-learn": start_sklearn,
}
