"""Estimators for scikit-learn, trained as scikit-learn trains its perceptrons, and searches over them.

They are of the extra `sklearn`: `import jaxmlp` does not import them.
"""

import lazy_loader

from jaxmlp._extras import optional

_OLDEST = (1, 6)

_found = optional("sklearn", "sklearn").__version__
if tuple(map(int, _found.split(".")[:2])) < _OLDEST:
    raise ImportError(f"scikit-learn is {_found}, expected 1.6 or newer, try: pip install 'jaxmlp[sklearn]'")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
