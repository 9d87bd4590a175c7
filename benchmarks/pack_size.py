"""How large a source pack is: pairs of random numbers in the shapes of a tower, written as `vlmrank pack` writes them.

    python benchmarks/pack_size.py [--sources 30] [--images 16] [--classes 50]

Random numbers compress worst, so real packs are a little smaller. The first row is with the predictions of all images
of a source (256, `images: {predictions: all}`), the second with those of the attributed images alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.store import Pair, write_pair
from vlmrank.store.packs import Pack, write_pack
from vlmrank.text import human_bytes

TOWERS = {"ViT-B-32": (12, 768, 512), "ViT-L-14": (24, 1024, 768)}  # blocks, channels, embedding
PREDICTED = 256


def pair(tower: tuple[int, int, int], images: int, predicted: int, classes: int, seed: int) -> Pair:
    """A pair of random numbers in the shapes of a tower."""
    blocks, channels, width = tower
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    names = [f"class_{seed}/{number:06d}.jpg" for number in range(predicted)]
    return Pair(
        blocks={f"transformer.resblocks.{block}": numbers(images, channels) for block in range(blocks)},
        score=rng.standard_normal((images, 2)),
        delta=numbers(images, blocks),
        pseudo_label=rng.integers(0, classes, images),
        image_id=names[:images],
        alphas=np.linspace(0, 1, 9),
        predicted_id=names,
        predicted_sha256=[rng.bytes(32).hex() for _ in names],
        logits=numbers(predicted, classes),
        embedding=numbers(predicted, width),
        class_embedding=numbers(classes, width),
        attributes={"status": "ok", "reason": "", "model": "m", "dataset": "d", "class_names": ["class"] * classes},
    )


def main() -> None:
    """Print the size of a pack for each tower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=30)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--classes", type=int, default=50)
    options = parser.parse_args()
    for name, tower in TOWERS.items():
        for predicted in (PREDICTED, options.images):
            with tempfile.TemporaryDirectory() as folder:
                pairs = {}
                for seed in range(options.sources):
                    pairs[f"{seed:064x}"] = Path(folder) / f"{seed}.h5"
                    made = pair(tower, options.images, predicted, options.classes, seed)
                    write_pair(pairs[f"{seed:064x}"], made)
                path = Path(folder) / "x.vlmpack"
                write_pack(path, Pack(path, {}, {}, {}, {}, {}), pairs)
                size = human_bytes(path.stat().st_size)
            print(f"{name}: {options.sources} sources, {options.images} images, {predicted} predicted: {size}")


if __name__ == "__main__":
    main()
