"""Error of the channel attributions against a fine reference, per unit of work, on trained towers.

    python benchmarks/quadrature.py benchzoo/models/ViT-s-16--corpus0 --images benchzoo/datasets/cifar10/target
    python benchmarks/quadrature.py MODEL... --images FOLDER... --precision

The error is |c - c_ref| / |c_ref| over a block's channels, averaged over blocks and images; the reference has 512 steps
(`--reference`). One unit of work is a forward and a backward pass through the tower for one image; gradients at Gauss
nodes take a forward-mode derivative besides, which is half a unit. Nodes lie at equal arc length unless `uniform` is
written. The objective is the zero-shot logit where a `dataset.yaml` lies beside the images' folder, else the cosine to
the image's own embedding.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlmrank.conductance.accumulate import channel_sum
from vlmrank.conductance.layer import layer_conductance
from vlmrank.conductance.objective import embedding_objective, zero_shot_objective
from vlmrank.conductance.quadrature import arc_length_curve, path_positions, uniform_curve
from vlmrank.conductance.secant_relu import is_piecewise_linear
from vlmrank.datasets.prompts import DEFAULT_TEMPLATES, read_prompts
from vlmrank.errors import VlmrankError
from vlmrank.models.blocks import Block, visual_blocks
from vlmrank.models.precision import DTYPES, in_precision
from vlmrank.models.texts import class_embeddings
from vlmrank.store import write_json


class Problem:
    """One tower and some images, in float64."""

    def __init__(self, folder: Path, images: Path, count: int):
        source = f"local-dir:{folder.resolve()}"
        model, preprocess = open_clip.create_model_from_pretrained(source)
        self.name, self.images_name = folder.name, images.parent.name
        self.model = model.double().eval()
        self.blocks = visual_blocks(model.visual)
        paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))[:count]
        if not paths:
            raise VlmrankError(f"no PNG, JPEG or WebP image in {images}")
        self.x = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in paths]).double()
        size = self.x.shape[-1]
        self.baseline = preprocess(Image.new("RGB", (size, size))).double()[None].expand_as(self.x)
        with torch.no_grad():
            embedding = self.model.encode_image(self.x)
        self.scalar = embedding_objective(embedding)
        if (images.parent / "dataset.yaml").is_file():
            prompts = read_prompts(images.parent / "dataset.yaml")
            templates = prompts.templates or DEFAULT_TEMPLATES
            text = class_embeddings(self.model, open_clip.get_tokenizer(source), prompts.classes, templates)
            self.scalar = zero_shot_objective(embedding, text, self.model.logit_scale.exp().item())
        self.arc = arc_length_curve(self.model.encode_image, self.blocks, self.x, self.baseline)

    def run(self, rule: str, points: int, curve: Callable | None = None, **options) -> list[Tensor]:
        """Return the attributions [K, C_b] of each block."""
        alphas = (curve or self.arc)(path_positions(points, rule))
        arguments = {"scalar": self.scalar, "alphas": alphas, "rule": rule, **options}
        result = layer_conductance(self.model.encode_image, self.blocks, self.x, self.baseline, **arguments)
        return list(result.blocks.values())

    def gauss(self, points: int) -> list[Tensor]:
        """Gauss-Legendre nodes in arc length with dh/dalpha at each node, here by central differences in float64."""
        t, weights = np.polynomial.legendre.leggauss(points)
        t, step = (t + 1) / 2, 1e-5
        inner = np.concatenate([[0.0], t, [1.0]])
        alphas = self.arc(inner)[1:-1]
        slope = (self.arc(np.clip(inner + step, 0, 1)) - self.arc(np.clip(inner - step, 0, 1)))[1:-1] / (2 * step)
        totals = [torch.zeros(len(self.x), block.channels, dtype=torch.float64) for block in self.blocks]
        for alpha, weight in zip(alphas, weights / 2 * slope, strict=True):
            _, g = self._outputs(alpha, gradients=True)
            ahead, _ = self._outputs(alpha + 1e-6)
            behind, _ = self._outputs(alpha - 1e-6)
            for total, block, a, b, gradient in zip(totals, self.blocks, ahead, behind, g, strict=True):
                total += weight * channel_sum(gradient * (a - b) / 2e-6, block.axis)
        return totals

    def _outputs(self, alpha: float, *, gradients: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        kept: list[Tensor] = []
        handles = [
            block.module.register_forward_hook(lambda _module, _args, output: kept.append(output))
            for block in self.blocks
        ]
        try:
            x = torch.lerp(self.baseline, self.x, float(alpha)).requires_grad_(gradients)
            with torch.set_grad_enabled(gradients):
                f = self.scalar(self.model.encode_image(x), torch.arange(len(x)))
            return [h.detach() for h in kept], list(torch.autograd.grad(f.sum(), kept)) if gradients else []
        finally:
            for handle in handles:
                handle.remove()

    def reference(self, steps: int) -> list[Tensor]:
        """Return the attributions of a fine path: secant slopes for ReLU towers, Clenshaw-Curtis for smooth ones."""
        return self.run("secant" if is_piecewise_linear(self.blocks) else "clenshaw-curtis", steps)


def error(values: list[Tensor], reference: list[Tensor]) -> float:
    """Return |c - c_ref| / |c_ref|, averaged over blocks and images."""
    pairs = zip(values, reference, strict=True)
    return float(np.mean([((a - b).norm(dim=-1) / b.norm(dim=-1)).mean() for a, b in pairs]))


def richardson(problem: Problem, points: int) -> list[Tensor]:
    """(4 T_n - T_{n/2}) / 3 of the trapezoid, which is the quadratic panel rule on equal steps."""
    fine, coarse = problem.run("trapezoid", points), problem.run("trapezoid", points // 2)
    return [(4 * a - b) / 3 for a, b in zip(fine, coarse, strict=True)]


def rules(blocks: tuple[Block, ...]) -> dict[str, tuple[float, Callable[[Problem, int], list[Tensor]]]]:
    """Return name -> (units of work a point, function) of the rules that fit the tower."""
    table: dict[str, tuple[float, Callable]] = {
        "captum (left, uniform)": (1.0, lambda p, n: p.run("left", n, uniform_curve)),
        "trapezoid, uniform": (1.0, lambda p, n: p.run("trapezoid", n, uniform_curve)),
        "trapezoid": (1.0, lambda p, n: p.run("trapezoid", n)),
        "Richardson": (1.0, richardson),
        "clenshaw-curtis, uniform": (1.0, lambda p, n: p.run("clenshaw-curtis", n, uniform_curve)),
        "clenshaw-curtis": (1.0, lambda p, n: p.run("clenshaw-curtis", n)),
        "Gauss with derivatives": (1.5, lambda p, n: p.gauss(n)),
    }
    if is_piecewise_linear(blocks):
        table["secant, uniform"] = (1.0, lambda p, n: p.run("secant", n, uniform_curve))
        table["secant"] = (1.0, lambda p, n: p.run("secant", n))
    return table


def print_rules(problem: Problem, reference_steps: int, work: list[int]) -> list[dict]:
    """Print and return the error of every rule at equal work."""
    reference = problem.reference(reference_steps)
    print(
        f"\n{problem.name}, {len(problem.x)} images of {problem.images_name}: error at equal work, in passes per image"
    )
    print(f"{'rule':26}" + "".join(f"{units:>10}" for units in work))
    rows = []
    for name, (price, rule) in rules(problem.blocks).items():
        errors = [error(rule(problem, max(2, round(units / price))), reference) for units in work]
        print(f"{name:26}" + "".join(f"{value:10.5f}" for value in errors), flush=True)
        rows += [
            {"model": problem.name, "images": problem.images_name, "rule": name, "work": units, "error": value}
            for units, value in zip(work, errors, strict=True)
        ]
    return rows


def print_precisions(problem: Problem, points: int) -> list[dict]:
    """Print and return the drift of each precision from float64 at the same nodes."""
    rule = "secant" if is_piecewise_linear(problem.blocks) else "clenshaw-curtis"
    exact = problem.run(rule, points)
    x, baseline, rows = problem.x, problem.baseline, []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in DTYPES:
        if name == "float64" or (name == "tf32" and device == "cpu"):
            continue
        problem.model.to(device, torch.float32)
        problem.x, problem.baseline = x.float().to(device), baseline.float().to(device)
        with in_precision(name, torch.device(device)):
            values = problem.run(rule, points)
        rows.append({"model": problem.name, "precision": name, "device": device, "drift": error(values, exact)})
        print(f"{problem.name}: {name} on {device} drifts from float64 by {rows[-1]['drift']:.2e}", flush=True)
    problem.model.to("cpu", torch.float64)
    problem.x, problem.baseline = x, baseline
    return rows


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="folders that open_clip loads with local-dir:")
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="folders of images")
    parser.add_argument("--count", type=int, default=2, help="images of each folder")
    parser.add_argument("--work", nargs="+", type=int, default=[8, 16, 32, 64], help="passes per image")
    parser.add_argument("--reference", type=int, default=512, help="steps of the reference")
    parser.add_argument("--precision", action="store_true", help="print the drift of precisions instead")
    parser.add_argument("--json", metavar="FILE", help="also write the rows")
    options = parser.parse_args()
    missing = [str(path) for path in [*options.models, *options.images] if not path.is_dir()]
    if missing:
        print(f"quadrature.py: no such folder: {', '.join(missing)}", file=sys.stderr)
        return 2
    torch.set_num_threads(torch.get_num_threads())
    rows = []
    for folder in options.models:
        for images in options.images:
            problem = Problem(folder, images, options.count)
            rows += (
                print_precisions(problem, max(options.work[:2]))
                if options.precision
                else print_rules(problem, options.reference, options.work)
            )
    if options.json:
        write_json(options.json, {"rows": json.loads(json.dumps(rows))})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VlmrankError as problem:
        sys.exit(f"quadrature.py: {problem}")
