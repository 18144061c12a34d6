"""Multilayer perceptrons as pure functions in JAX, with backpropagation written by hand.

>>> import jax, jaxmlp
>>> mlp = jaxmlp.MLP((4, 16, 3))
>>> params = jaxmlp.init(mlp, jax.random.key(0))
>>> loss, y, factors = jaxmlp.backprop(mlp, params, jax.numpy.ones(4), 2)

`__init__.pyi` lists the public names. Each is imported when it is first used, so `jaxmlp --help` need not wait for JAX.
"""

import lazy_loader

from jaxmlp._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
