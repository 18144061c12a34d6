"""The values that parameters of the estimators may have, and the error line for any other."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.estimators._control import SCHEDULE_NAMES

__all__ = ["ALIASES", "LOSSES", "activation_name", "check_in_dtype", "check_parameters", "hidden_sizes"]

ALIASES = {"logistic": "sigmoid"}
"""scikit-learn's name of an activation, and that of this library."""

LOSSES = {"squared_error": ("quadratic", "identity"), "poisson": ("poisson", "exp")}
"""scikit-learn's name of a loss of the regressor, and this library's with its output activation."""


class _Rule(NamedTuple):
    text: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and bool(np.isfinite(float(value)))


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_) and int(value) >= 1


_FLAG = _Rule("True or False", lambda value: isinstance(value, bool | np.bool_))
_COUNT = _Rule("a whole number, 1 or larger", _is_count)
_POSITIVE = _Rule("positive and finite", _is_positive)
_NOT_NEGATIVE = _Rule("0 or larger and finite", lambda value: _is_number(value) and value >= 0)

_RULES: Mapping[str, _Rule] = {
    "alpha": _NOT_NEGATIVE,
    "batch_size": _Rule(
        "'auto' or a whole number, 1 or larger",
        lambda value: (isinstance(value, str) and value == "auto") or _is_count(value),
    ),
    "learning_rate_init": _POSITIVE,
    "power_t": _NOT_NEGATIVE,
    "max_iter": _COUNT,
    "shuffle": _FLAG,
    "tol": _NOT_NEGATIVE,
    "verbose": _Rule("True, False or a whole number", lambda value: isinstance(value, np.bool_ | Integral)),
    "warm_start": _FLAG,
    "momentum": _Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "nesterovs_momentum": _FLAG,
    "early_stopping": _FLAG,
    "validation_fraction": _Rule("0 or larger and below 1", lambda value: _is_number(value) and 0 <= value < 1),
    "n_iter_no_change": _Rule(
        "a whole number, 1 or larger, or numpy.inf",
        lambda value: _is_count(value) or (isinstance(value, Real) and value == np.inf),
    ),
    "n_networks": _COUNT,
    "clip": _Rule("None, or positive and finite", lambda value: value is None or _is_positive(value)),
    "encode_tables": _FLAG,
}

_CHOICES: Mapping[str, Sequence[str | None]] = {
    "learning_rate": SCHEDULE_NAMES,
    "dtype": (None, "float32", "float64"),
    "loss": tuple(LOSSES),
}


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise a ValueError if an estimator cannot be fitted with these parameters.

    >>> check_parameters({"momentum": 1.5})
    Traceback (most recent call last):
    ValueError: momentum must be a number from 0 to 1, got 1.5
    """
    for name, value in parameters.items():
        if name in _RULES and not _RULES[name].holds(value):
            raise ValueError(f"{name} must be {_RULES[name].text}, got {value!r}")
        if name in _CHOICES and not (isinstance(value, str | None) and value in _CHOICES[name]):
            raise ValueError(unknown_name(name, value, map(str, _CHOICES[name])))
    if "solver" in parameters and parameters["solver"] != "sgd":
        raise ValueError(
            f"solver must be 'sgd', got {parameters['solver']!r}: write solver='sgd' and search for learning_rate_init "
            "from 0.01 to 0.5; sklearn.neural_network has the other solvers"
        )
    if "activation" in parameters:
        activation_name(parameters["activation"])
    if "hidden_layer_sizes" in parameters:
        hidden_sizes(parameters["hidden_layer_sizes"])


def check_in_dtype(parameters: Mapping[str, Any], dtype: np.dtype) -> None:
    """Raise a ValueError if a number is infinite in the dtype of the network.

    >>> check_in_dtype({"alpha": 1e39, "clip": None, "learning_rate_init": 0.1}, np.dtype("float32"))
    Traceback (most recent call last):
    ValueError: alpha must be finite in float32, got 1e+39: set dtype='float64'
    """
    for name in ("alpha", "clip", "learning_rate_init"):
        value = parameters[name]
        if value is not None and value > float(np.finfo(dtype).max):
            raise ValueError(f"{name} must be finite in {dtype}, got {value!r}: set dtype='float64'")


def activation_name(name: Any) -> str:
    """Return this library's name of a hidden activation.

    >>> activation_name("logistic")
    'sigmoid'
    """
    hidden = [known for known, phi in ACTIVATIONS.items() if phi.derivative is not None]
    own = ALIASES.get(name, name) if isinstance(name, str) else None
    if own is None or own not in hidden:
        raise ValueError(unknown_name("activation", name, [*ALIASES, *hidden]))
    return own


def hidden_sizes(sizes: Any) -> tuple[int, ...]:
    """Return the widths of the hidden layers: of one as a number, of several as a list or an array.

    >>> hidden_sizes(100), hidden_sizes([64, 32])
    ((100,), (64, 32))
    """
    try:
        each = list(sizes) if hasattr(sizes, "__iter__") and not isinstance(sizes, str) else [sizes]
        return tuple(whole_number("hidden_layer_sizes", size, least=1) for size in each)
    except ValueError:
        message = f"hidden_layer_sizes must be whole numbers, each 1 or larger, as (100,), got {sizes!r}"
        raise ValueError(message) from None
