"""Compute what `benchmarks/ideas.py` compares, beyond what the workflow keeps: labelled source images, other scalars.

    python benchmarks/idea_arrays.py [--bench benchzoo] [--out results/ideas]

One npz a model in each folder of OUT; what is there already stays, so that a run that was stopped goes on. Rows are
drawn by seed 0; labelled images take turns by class. No labelled image is among those that represent a dataset as the
target: they come from other splits of its source.

- forward: `scale`; of each dataset `<name>/text` [C, D], `<name>/target` and `<name>/test` [N, D], image embeddings.
- logit-target, logit-test: conductance of the pseudo-label's logit, `<name>/<block>` [16, C_b], `<name>/rows` [16].
- centred-target, margin-target, logodds-target, entropy-target: the same of another scalar, for a part of the zoo.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.objective import Objective, zero_shot_objective
from vlmrank.conductance.quadrature import arc_length_curve, path_positions
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.models.blocks import visual_blocks
from vlmrank.models.texts import class_embeddings

IMAGES, POINTS = 16, 4
SCALARS = ("centred", "margin", "logodds", "entropy")  # besides the logit
PART = "0369"  # corpora of the part of the zoo


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.rename(path)


def in_turns(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The order, stably sorted so that the classes take turns."""
    seen: dict[int, int] = {}
    turn = np.zeros(len(labels), int)
    for index in order:
        turn[index] = seen.get(labels[index], 0)
        seen[labels[index]] = turn[index] + 1
    return order[np.argsort(turn[order], kind="stable")]


def read_images(bench: Path, out: Path, datasets: list[str]) -> dict[str, np.ndarray]:
    """`<name>/target`, `/test` uint8 [N, H, W, 3], `/labels`, `/target_order`, `/test_order`; decoded once."""
    path = out / "images.npz"
    if path.exists():
        return dict(np.load(path))

    def decode(file: Path) -> np.ndarray:
        return np.asarray(Image.open(file).convert("RGB"))

    arrays = {}
    for name in datasets:
        folder, rng = bench / "datasets" / name, np.random.default_rng(0)
        arrays[f"{name}/target"] = np.stack([decode(file) for file in sorted((folder / "target").iterdir())])
        test = [file for one in sorted((folder / "test").iterdir()) for file in sorted(one.iterdir())]
        labels = np.array([int(file.parent.name.split("_")[0]) for file in test])
        arrays |= {f"{name}/test": np.stack([decode(file) for file in test]), f"{name}/labels": labels}
        arrays[f"{name}/target_order"] = rng.permutation(len(arrays[f"{name}/target"]))
        arrays[f"{name}/test_order"] = in_turns(labels, rng.permutation(len(labels)))
    save(path, arrays)
    return arrays


def pixels(images: np.ndarray) -> Tensor:
    """Images [N, 3, H, W] as the bench's models take them: no resizing, OpenAI's mean and deviation."""
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def scalar_of(kind: str, embedding: Tensor, text: Tensor, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    """What is attributed: a function of embeddings and the rows of the images they belong to."""
    plain = zero_shot_objective(embedding, text, scale)
    label, logits = plain.pseudo_label, plain.logits
    if kind == "logit":
        return plain
    if kind == "margin":
        return Objective(kind, text[label] - text[logits.topk(2, 1).indices[:, 1]], scale, label, logits)
    if kind == "centred":
        return Objective(kind, text[label] - text.mean(0), scale, label, logits)

    def scalar(values: Tensor, rows: Tensor) -> Tensor:
        found = scale * F.normalize(values, dim=-1) @ text.T
        if kind == "entropy":
            return -(found.softmax(1) * found.log_softmax(1)).sum(1)
        own = label[rows][:, None]
        return found.gather(1, own)[:, 0] - found.scatter(1, own, float("-inf")).logsumexp(1)

    return scalar


class Zoo:
    """The bench's models, loaded one at a time."""

    def __init__(self, bench: Path, out: Path) -> None:
        self.bench, self.out = bench, out
        self.datasets = sorted(path.name for path in (bench / "datasets").iterdir())
        self.models = sorted(path.name for path in (bench / "models").glob("*--corpus*"))
        self.models.sort(key=lambda name: name[-1])  # corpus by corpus: a part of the zoo is of use already
        self.images = read_images(bench, out, self.datasets)

    def load(self, name: str):
        """The model in float32."""
        source = f"local-dir:{(self.bench / 'models' / name).resolve()}"
        model = open_clip.create_model_from_pretrained(source, return_transform=False, precision="fp32")
        return model.eval().requires_grad_(False), open_clip.get_tokenizer(source)

    def forward(self, name: str) -> None:
        """Embeddings of all images and class texts."""
        path = self.out / "forward" / f"{name}.npz"
        if path.exists():
            return
        model, tokenizer = self.load(name)
        arrays = {"scale": np.array(model.logit_scale.exp().item())}
        with torch.no_grad():
            for dataset in self.datasets:
                sheet = yaml.safe_load((self.bench / "datasets" / dataset / "dataset.yaml").read_text())
                classes = [str(one) for one in sheet["classes"]]
                arrays[f"{dataset}/text"] = class_embeddings(model, tokenizer, classes, sheet["templates"]).numpy()
                for part in ("target", "test"):
                    batches = pixels(self.images[f"{dataset}/{part}"]).split(32)
                    arrays[f"{dataset}/{part}"] = torch.cat([model.encode_image(one) for one in batches]).numpy()
        save(path, arrays)
        print("forward", name, flush=True)

    def conductance(self, name: str, kind: str, part: str) -> None:
        """Conductance of a scalar for the first images of each dataset's order."""
        path = self.out / f"{kind}-{part}" / f"{name}.npz"
        if path.exists():
            return
        model, _ = self.load(name)
        known, arrays = np.load(self.out / "forward" / f"{name}.npz"), {}
        blocks = visual_blocks(model.visual)
        rule = "secant" if is_piecewise_linear(blocks) else "clenshaw-curtis"
        for dataset in self.datasets:
            rows = self.images[f"{dataset}/{part}_order"][:IMAGES]
            images = pixels(self.images[f"{dataset}/{part}"][rows])
            baseline = pixels(np.zeros((1, *self.images[f"{dataset}/{part}"].shape[1:]), np.uint8)).expand_as(images)
            embedding = torch.from_numpy(known[f"{dataset}/{part}"][rows])
            text, scale = torch.from_numpy(known[f"{dataset}/text"]), float(known["scale"])
            curve = arc_length_curve(model.encode_image, blocks, images, baseline, batch=17)
            found = layer_conductance(
                model.encode_image,
                blocks,
                images,
                baseline,
                scalar=scalar_of(kind, embedding, text, scale),
                alphas=curve(path_positions(POINTS, rule)),
                rule=rule,
                chunk_size=(POINTS + 1) * 8,
            )
            arrays |= {f"{dataset}/{i}": v.numpy().astype(np.float32) for i, v in enumerate(found.blocks.values())}
            arrays[f"{dataset}/rows"] = rows
        save(path, arrays)
        print(f"{kind}-{part}", name, flush=True)


def main() -> None:
    """Forward passes first, then the conductance of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, default=Path("benchzoo"))
    parser.add_argument("--out", type=Path, default=Path("results/ideas"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    zoo = Zoo(options.bench, options.out)
    for name in zoo.models:
        zoo.forward(name)
    for part in ("target", "test"):
        for name in zoo.models:
            zoo.conductance(name, "logit", part)
    for kind in SCALARS:
        for name in zoo.models:
            if name[-1] in PART:
                zoo.conductance(name, kind, "target")


if __name__ == "__main__":
    main()
