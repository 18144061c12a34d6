"""Files: models, checkpoints and run folders, written whole or not at all; a cache of compiled programs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
