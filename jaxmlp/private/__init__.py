"""Differentially private training (DP-SGD): a mechanism, its account by Google's `dp-accounting`, and an audit.

Clipping needs the norm of each example's gradient, which the factors of backpropagation give for almost nothing. The
accounts are of the extra `private`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
