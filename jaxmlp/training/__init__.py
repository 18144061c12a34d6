"""Training: its options, one epoch as one compiled program, the loop over epochs, and what is recorded and measured."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
