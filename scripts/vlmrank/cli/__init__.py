"""The command line `vlmrank`."""

from vlmrank.cli.command_line import main

__all__ = ["main"]
