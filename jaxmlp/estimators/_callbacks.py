"""scikit-learn's callbacks, which came with its version 1.9; before that a fit has none."""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CallbackSupportMixin", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    Method = TypeVar("Method", bound=Callable[..., Any])

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for the mixin that older versions do not have."""

    def with_callbacks(method: Method) -> Method:
        """Return the method as it is."""
        return method
