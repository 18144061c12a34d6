"""Ctrl-C and SIGTERM that are not lost, wherever in a program they arrive."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "interrupts_kept", "termination_as_interrupt"]


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, by which schedulers and shells end a process: work is saved as at Ctrl-C."""


@contextmanager
def termination_as_interrupt() -> Iterator[list[int]]:
    """Raise `Terminated` for SIGTERM, in the main thread; give a list that then has the signal."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise Ctrl-C again if it arrived in a callback whose exceptions Python drops.

    JAX registers such a callback with the garbage collector, which runs often while a program is traced or compiled.
    """
    hook = sys.unraisablehook

    def keep(dropped: "sys.UnraisableHookArgs") -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            # Later, because this hook runs inside the callback. If the signal is dropped again, the hook runs again.
            number = signal.SIGTERM if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
            timer = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, number))
            timer.daemon = True
            timer.start()
        else:
            hook(dropped)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    sys.unraisablehook = keep
    try:
        yield
    finally:
        sys.unraisablehook = hook
