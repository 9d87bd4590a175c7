"""`vlmrank site`: collect the reports of several runs in one folder with an index page."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "site",
        help="collect the reports of several runs into one folder with an index",
        description="Copy the reports of runs into one folder and write index.html beside them: task, pick, evidence "
        "and date of each, to be searched. It is opened from disk, or put on any web server.",
    )
    parser.add_argument("results", nargs="+", help="results folders, or folders that hold such")
    parser.add_argument("--output", default="site", help="folder of the site (site)")
    parser.add_argument("--title", default="Which model for which task", help="heading of the page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the site and say where it is."""
    from vlmrank.report.site import build_site

    print(f"Open {build_site(options.results, options.output, title=options.title)}")
    return 0
