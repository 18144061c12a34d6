"""Estimators for scikit-learn, trained as scikit-learn trains its perceptrons; of the extra `sklearn`."""

import lazy_loader

from jaxmlp._extras import optional

optional("sklearn", "sklearn")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
