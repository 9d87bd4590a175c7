"""The command `vlmrank`: models to choose from, the size of a run, published tables, images to label, stores, packs,
sites of reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vlmrank import __version__
from vlmrank.cli import label, models, pack, published, rank, site, size, store
from vlmrank.errors import VlmrankError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a user error gives one message on stderr and exit status 2."""
    parser = argparse.ArgumentParser(prog="vlmrank", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vlmrank {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (rank, models, size, published, label, store, pack, site):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except VlmrankError as error:
        print(f"vlmrank {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # mostly a folder without write permission
        where = f"{error.filename}: " if error.filename else ""
        print(f"vlmrank {options.command}: {where}{error.strerror or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
