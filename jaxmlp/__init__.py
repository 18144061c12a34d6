"""Multilayer perceptrons as pure functions in JAX, with backpropagation written by hand.

>>> import jax, jaxmlp
>>> mlp = jaxmlp.MLP((4, 16, 3))
>>> params = jaxmlp.init(mlp, jax.random.key(0))
>>> loss, y, factors = jaxmlp.backprop(mlp, params, jax.numpy.ones(4), 2)

Nothing is imported before it is used: `jaxmlp --help` answers without waiting for JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers
    from jaxmlp import activations as activations
    from jaxmlp import checking as checking
    from jaxmlp import checkpoint as checkpoint
    from jaxmlp import config as config
    from jaxmlp import curvature as curvature
    from jaxmlp import data as data
    from jaxmlp import equivalences as equivalences
    from jaxmlp import evaluation as evaluation
    from jaxmlp import history as history
    from jaxmlp import influence as influence
    from jaxmlp import losses as losses
    from jaxmlp import network as network
    from jaxmlp import per_example as per_example
    from jaxmlp import plots as plots
    from jaxmlp import sgd as sgd
    from jaxmlp import sweep as sweep
    from jaxmlp import training as training
    from jaxmlp.backpropagation import Backprop as Backprop
    from jaxmlp.backpropagation import Factors as Factors
    from jaxmlp.backpropagation import backprop as backprop
    from jaxmlp.backpropagation import batch_gradient as batch_gradient
    from jaxmlp.backpropagation import gradient as gradient
    from jaxmlp.backpropagation import outer as outer
    from jaxmlp.checkpoint import Model as Model
    from jaxmlp.checkpoint import load as load
    from jaxmlp.checkpoint import save as save
    from jaxmlp.compilation import use_compilation_cache as use_compilation_cache
    from jaxmlp.config import TrainConfig as TrainConfig
    from jaxmlp.data import Dataset as Dataset
    from jaxmlp.evaluation import Evaluation as Evaluation
    from jaxmlp.evaluation import evaluate as evaluate
    from jaxmlp.history import Epoch as Epoch
    from jaxmlp.history import Trained as Trained
    from jaxmlp.network import MLP as MLP
    from jaxmlp.network import Forward as Forward
    from jaxmlp.network import Layer as Layer
    from jaxmlp.network import forward as forward
    from jaxmlp.network import init as init
    from jaxmlp.network import loss as loss
    from jaxmlp.network import predict as predict
    from jaxmlp.training import train as train

_NAMES = {
    "backpropagation": ("Backprop", "Factors", "backprop", "batch_gradient", "gradient", "outer"),
    "checkpoint": ("Model", "load", "save"),
    "compilation": ("use_compilation_cache",),
    "config": ("TrainConfig",),
    "data": ("Dataset",),
    "evaluation": ("Evaluation", "evaluate"),
    "network": ("MLP", "Forward", "Layer", "forward", "init", "loss", "predict"),
    "history": ("Epoch", "Trained"),
    "training": ("train",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = (
    "activations",
    "checking",
    "checkpoint",
    "config",
    "curvature",
    "data",
    "equivalences",
    "evaluation",
    "history",
    "influence",
    "losses",
    "network",
    "per_example",
    "plots",
    "sgd",
    "sweep",
    "training",
)

__version__ = "0.1.0"
__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"jaxmlp.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"jaxmlp.{name}")
    else:
        raise AttributeError(f"module 'jaxmlp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
