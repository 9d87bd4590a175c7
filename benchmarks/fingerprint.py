"""Time the fingerprint of a folder of many files, which the head process takes of each dataset once a run.

    python benchmarks/fingerprint.py [--files 50000] [--folders 100] [--place FOLDER]

`--place` is a folder on the file system that is asked about, for instance one that is shared over a network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from vlmrank.workflow.fingerprint import fingerprint
from vlmrank.workflow.sheets import DatasetRow


def main() -> None:
    """Print the seconds of the first look and the least of the next three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--folders", type=int, default=100)
    parser.add_argument("--place", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.place) as place:
        for number in range(arguments.files):
            folder = Path(place) / f"class {number % arguments.folders:03d}"
            folder.mkdir(exist_ok=True)
            (folder / f"image {number:06d}.jpg").touch()
        row = DatasetRow("d", "source", place)
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            fingerprint(row)
            seconds.append(time.perf_counter() - started)
    print("files\tfirst s\tnext s")
    print(f"{arguments.files}\t{seconds[0]:.2f}\t{min(seconds[1:]):.2f}")


if __name__ == "__main__":
    main()
