"""Train the demo's zoo: two families of small OpenCLIP models and their fine-tuned variants.

A family's trunk learns a broad mixture of tasks; every variant continues from the trunk on a mixture of its own, so
that the accuracies of the zoo differ from task to task. The loss is the cross-entropy of the zero-shot logits,

    L = -mean_k log softmax_c(s cos(phi(x_k), T_c))[y_k],

over the classes c of the task that image x_k belongs to, with phi the image tower, T_c the text tower's embedding of a
prompt about class c drawn anew in each step, and s the learned logit scale. Both towers learn.

The vocabulary trick: only the tokens that occur in the prompts are trained, in a small embedding; the saved model has
OpenCLIP's whole vocabulary, with zero rows for all other tokens, and is used with OpenCLIP's ordinary tokenizer.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from vlmrank.demo import NEVER_TRAINED, VARIANTS, model_names
from vlmrank.demo.tasks import TASKS, sample
from vlmrank.store import atomic, write_json

MEAN = open_clip.OPENAI_DATASET_MEAN
STD = open_clip.OPENAI_DATASET_STD
CONTEXT = 12
VOCABULARY = 49408

TOWERS: dict[str, dict] = {
    "ViT-demo-8": {"image_size": 32, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8},
    "RN-demo": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 12, "head_width": 48, "patch_size": None},
}
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 64, "heads": 2, "layers": 1}
EMBEDDING = 64

TRAINED = tuple(name for name in TASKS if name not in NEVER_TRAINED)

FAVOURITES: dict[str, tuple[str, ...]] = {
    "broad": (),
    "scripts": ("digits", "letters"),
    "geometry": ("shapes", "orientation"),
    "surface": ("textures", "colours"),
    "scenes": ("counting", "faces"),
}
"""The tasks that make up FOCUS of a variant's mixture; the rest is spread over all trained tasks."""

FOCUS = 0.85


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a model learns: steps of `batch` images, peak learning rate `rate`."""

    steps: int
    rate: float
    batch: int


TRUNK: dict[str, Recipe] = {"ViT-demo-8": Recipe(900, 1e-3, 64), "RN-demo": Recipe(400, 1.5e-3, 96)}
VARIANT: dict[str, Recipe] = {"ViT-demo-8": Recipe(110, 5e-4, 64), "RN-demo": Recipe(70, 8e-4, 96)}


def mixture(variant: str) -> dict[str, float]:
    """The share of each trained task in a variant's batches; sums to 1.

    >>> round(sum(mixture("geometry").values()), 12)
    1.0
    """
    favourites = FAVOURITES[variant]
    focus = FOCUS if favourites else 0.0
    return {
        name: (1 - focus) / len(TRAINED) + (focus / len(favourites) if name in favourites else 0.0) for name in TRAINED
    }


class Prompts:
    """Token sequences of every task's classes and templates over the small vocabulary.

    `tokens[name]` is int64 [templates, classes, CONTEXT]; `vocabulary` int64 [V] lists the full token ids in rising
    order, so that the end-of-text token, OpenCLIP's largest id, stays the largest.
    """

    def __init__(self) -> None:
        tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        full = {
            name: torch.stack([tokenizer([t.format(c=c) for c in task.classes]) for t in task.templates])
            for name, task in TASKS.items()
        }
        self.vocabulary = torch.unique(torch.cat([ids.flatten() for ids in full.values()]))
        self.tokens = {name: torch.searchsorted(self.vocabulary, ids) for name, ids in full.items()}

    def drawn(self, name: str, rng: np.random.Generator) -> Tensor:
        """One prompt a class, each with a template drawn at random: int64 [classes, CONTEXT]."""
        templates, classes, _ = self.tokens[name].shape
        return self.tokens[name][torch.from_numpy(rng.integers(0, templates, size=classes)), torch.arange(classes)]


@torch.no_grad()
def ease(visual: nn.Module) -> None:
    """Initialise a vision transformer so that it learns within a minute.

    Its patch embedding begins as the lowest cosines of brightness and of two colour contrasts, its positional embedding
    as sines and cosines of row and column, and its residual branches are made smaller.
    """
    weight = visual.conv1.weight
    width, _, patch, _ = weight.shape
    place = torch.arange(patch) + 0.5
    waves = torch.stack([torch.cos(torch.pi * place * k / patch) for k in range(patch)])
    waves = functional.normalize(waves, dim=1)
    order = sorted(((i, j) for i in range(patch) for j in range(patch)), key=sum)
    shares = (width - 2 * (width // 7), width // 7, width // 7)
    contrasts = functional.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]), dim=1)
    filters = [
        contrast[:, None, None] * torch.outer(waves[i], waves[j]) * (0.09 if i + j == 0 else 0.3)
        for contrast, count in zip(contrasts, shares, strict=True)
        for i, j in order[:count]
    ]
    weight.copy_(torch.stack(filters))

    positions = visual.positional_embedding
    edge = round((len(positions) - 1) ** 0.5)
    rows, columns = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    quarter = width // 4
    speed = torch.pi / 2 * 10 ** (-torch.arange(quarter) / quarter)
    angles = [axis.flatten()[:, None] * speed for axis in (columns, rows)]
    positions[1:] = 0.5 * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)

    for block in visual.transformer.resblocks:
        block.attn.in_proj_weight.mul_(1.5)
        block.attn.out_proj.weight.mul_(0.3)
        block.mlp.c_proj.weight.mul_(0.3)


def build(family: str, vocabulary: int, seed: int) -> open_clip.CLIP:
    """An untrained OpenCLIP model of a family; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = TEXT | {"vocab_size": vocabulary}
        model = open_clip.CLIP(embed_dim=EMBEDDING, vision_cfg=TOWERS[family], text_cfg=text)
    if TOWERS[family]["patch_size"]:
        ease(model.visual)
    return model


def normalised(images: np.ndarray) -> Tensor:
    """uint8 [N, 32, 32, 3] -> float32 [N, 3, 32, 32] as OpenCLIP's preprocessing gives it."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift the batch by up to two pixels in each direction."""
    down, right = rng.integers(-2, 3, size=2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    return padded[:, 2 + down : 34 + down, 2 + right : 34 + right]


def fit(
    model: open_clip.CLIP,
    prompts: Prompts,
    data: Mapping[str, tuple[np.ndarray, np.ndarray]],
    shares: Mapping[str, float],
    recipe: Recipe,
    seed: int,
) -> float:
    """Train in place by AdamW with a linear warm-up and a cosine decay; return the mean loss of the last 20 steps."""
    rng = np.random.default_rng(seed)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), foreach=True)
    warm = max(1, recipe.steps // 15)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda k: min((k + 1) / warm, 0.5 + 0.5 * np.cos(np.pi * max(0, k - warm) / max(1, recipe.steps - warm))),
    )
    names = list(shares)
    losses = []
    model.train()
    for _ in range(recipe.steps):
        counts = rng.multinomial(recipe.batch, [shares[name] for name in names])
        present = [(name, count) for name, count in zip(names, counts, strict=True) if count]
        picks = [rng.integers(0, len(data[name][0]), size=count) for name, count in present]
        batch = np.concatenate([data[name][0][pick] for (name, _), pick in zip(present, picks, strict=True)])
        image = model.encode_image(normalised(_augmented(batch, rng)), normalize=True)
        drawn = [prompts.drawn(name, rng) for name, _ in present]
        text = model.encode_text(torch.cat(drawn), normalize=True).split([len(tokens) for tokens in drawn])
        scale = model.logit_scale.exp().clamp(max=50.0)
        loss = image.new_zeros(())
        for (name, count), pick, rows, classes in zip(
            present, picks, image.split([count for _, count in present]), text, strict=True
        ):
            labels = torch.from_numpy(data[name][1][pick])
            loss = loss + functional.cross_entropy(scale * rows @ classes.T, labels) * (count / recipe.batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    model.eval()
    return float(np.mean(losses[-20:]))


@torch.inference_mode()
def zero_shot_accuracy(
    model: open_clip.CLIP, prompts: Prompts, name: str, images: np.ndarray, labels: np.ndarray
) -> float:
    """Share of images whose nearest class, templates averaged, is the true one."""
    templates, classes, _ = prompts.tokens[name].shape
    text = model.encode_text(prompts.tokens[name].flatten(0, 1), normalize=True)
    text = functional.normalize(text.reshape(templates, classes, -1).mean(0), dim=-1)
    image = model.encode_image(normalised(images), normalize=True)
    return float(((image @ text.T).argmax(1).numpy() == labels).mean())


def save(model: open_clip.CLIP, prompts: Prompts, family: str, folder: Path, notes: Mapping[str, object]) -> None:
    """Write open_clip_config.json, open_clip_model.safetensors (float16, whole vocabulary) and training.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    small = state["token_embedding.weight"]
    whole = small.new_zeros((VOCABULARY, small.shape[1]))
    whole[prompts.vocabulary] = small
    state["token_embedding.weight"] = whole
    config = {
        "model_cfg": {"embed_dim": EMBEDDING, "vision_cfg": TOWERS[family], "text_cfg": TEXT},
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    write_json(folder / "open_clip_config.json", config)
    write_json(folder / "training.json", notes)
    with atomic(folder / "open_clip_model.safetensors") as partial:
        save_file({key: value.contiguous() for key, value in state.items()}, partial)


def train_family(
    family: str,
    folder: Path,
    *,
    variants: int = len(VARIANTS),
    effort: float = 1.0,
    per_class: int = 120,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, float]]:
    """Train a family and save each model in `folder/<architecture>--<variant>`.

    Parameters
    ----------
    family : a key of TOWERS.
    variants : how many of VARIANTS to train; the trunk is the first.
    effort : factor on all numbers of steps.
    per_class : training images drawn for each class.
    seed : fixes images, initial weights and batches. A variant does not depend on which others are trained.
    say : called with one line per model.

    Returns
    -------
    model -> task -> zero-shot accuracy on the labelled images, as `training.json` records it.
    """
    prompts = Prompts()
    data = {name: sample(name, "train", per_class, seed=seed) for name in TRAINED}
    tests = {name: sample(name, "test", 25, seed=seed) for name in TASKS}
    trunk = build(family, len(prompts.vocabulary), seed)
    results = {}
    for variant, model_name in zip(VARIANTS, model_names(family, variants), strict=False):
        started = time.perf_counter()
        model = trunk if variant == VARIANTS[0] else copy.deepcopy(trunk)
        recipe = (TRUNK if model is trunk else VARIANT)[family]
        recipe = Recipe(max(1, round(recipe.steps * effort)), recipe.rate, recipe.batch)
        loss = fit(model, prompts, data, mixture(variant), recipe, seed + VARIANTS.index(variant))
        accuracy = {name: zero_shot_accuracy(model, prompts, name, *test) for name, test in tests.items()}
        seconds = time.perf_counter() - started
        notes = {
            "architecture": family,
            "parent": None if model is trunk else model_names(family)[0],
            "mixture": mixture(variant),
            "steps": recipe.steps,
            "rate": recipe.rate,
            "batch": recipe.batch,
            "seed": seed,
            "loss": loss,
            "accuracy": accuracy,
        }
        save(model, prompts, family, folder / model_name, notes)
        say(f"{model_name}: {recipe.steps} steps in {seconds:.1f} s, loss {loss:.2f}")
        results[model_name] = accuracy
    return results
