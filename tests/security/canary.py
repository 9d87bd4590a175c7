"""A canary: a file that appears if something that was only to be read was run; and a clock that ends a wait."""

import contextlib
import signal
from pathlib import Path


@contextlib.contextmanager
def within(seconds: int):
    """Fail, instead of waiting for ever, if the block takes longer."""

    def stop(*_):
        raise AssertionError(f"it was still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def program(path: Path, canary: Path) -> str:
    """Write a program that leaves the canary, for where another one is expected."""
    path.write_text(f"#!/bin/sh\ntouch '{canary}'\n")
    path.chmod(0o755)
    return str(path)


class Touch:
    """Leaves the canary when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)
