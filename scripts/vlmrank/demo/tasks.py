"""The demo's tasks at 32 x 32 pixels: scikit-learn's handwritten digits, and drawn images.

A task folder holds `dataset.yaml` (name, domain, classes, templates), `target/` (unlabelled images) and
`test/<index>_<class>/` (labelled images). The folder of the target has `held_out/` in the place of `test/`: its labels
are for judging the answer afterwards, and no sheet names them.

Images depend on nothing but (task, split, seed): the same call draws the same pixels anywhere.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import pi
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from vlmrank.demo import TARGET
from vlmrank.demo import TASKS as NAMES
from vlmrank.demo import drawing as d
from vlmrank.store.files import atomic

SPLITS = ("train", "target", "test")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "ABEFHKMRSTXZ"


@dataclass(frozen=True)
class Task:
    """One task: the names that a text tower reads, and a function that draws one image of a class."""

    name: str
    domain: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], np.ndarray] | None
    """(generator, class index) -> uint8 [32, 32, 3]; None where the images are real (digits)."""


def _printed(rng: np.random.Generator, text: str) -> np.ndarray:
    ink, paper = d.two_colours(rng)
    canvas = d.Canvas(paper)
    x, y = rng.uniform(0.4, 0.6, size=2)
    canvas.glyph(text, x, y, rng.uniform(0.6, 0.95), ink, rng.uniform(-15, 15))
    return canvas.finish(rng)


def _printed_digit(rng: np.random.Generator, label: int) -> np.ndarray:
    return _printed(rng, str(label))


def _letter(rng: np.random.Generator, label: int) -> np.ndarray:
    return _printed(rng, LETTERS[label])


def _spot(rng: np.random.Generator, smallest: float, largest: float) -> tuple[float, float, float]:
    radius = rng.uniform(smallest, largest)
    x, y = rng.uniform(radius + 0.02, 0.98 - radius, size=2)
    return x, y, radius


def _shape(rng: np.random.Generator, label: int) -> np.ndarray:
    ink, paper = d.two_colours(rng)
    canvas = d.Canvas(paper)
    outline = list(d.OUTLINES.values())[label]
    points = d.place(outline, *_spot(rng, 0.26, 0.44), rng.uniform(-0.4, 0.4))
    if rng.random() < 0.5:
        canvas.polygon(points, ink)
    else:
        canvas.line([*points, points[0], points[1]], ink, rng.uniform(0.06, 0.1))
    return canvas.finish(rng)


def _sketch(rng: np.random.Generator, label: int) -> np.ndarray:
    """The outline alone, with a shaking hand, in dark pencil on light paper."""
    paper = d.jitter(rng, (236, 230, 216), 16)
    pencil = d.jitter(rng, (70, 70, 80), 30)
    canvas = d.Canvas(paper)
    x, y, radius = _spot(rng, 0.26, 0.44)
    points = d.place(list(d.OUTLINES.values())[label], x, y, radius, rng.uniform(-0.4, 0.4))
    closed = np.asarray([*points, points[0]])
    steps = np.linspace(0, len(points), 60)
    line = np.stack([np.interp(steps, np.arange(len(closed)), closed[:, axis]) for axis in (0, 1)], axis=1)
    for _ in range(int(rng.integers(1, 3))):
        shake = np.cumsum(rng.normal(0, 0.006, size=line.shape), axis=0)
        shake -= np.linspace(0, 1, len(line))[:, None] * shake[-1]
        canvas.line([(u, v) for u, v in line + shake], pencil, rng.uniform(0.03, 0.05))
    return canvas.finish(rng, noise=6.0)


def _texture(rng: np.random.Generator, label: int) -> np.ndarray:
    ink, paper = (np.asarray(c, dtype=np.float32) for c in d.two_colours(rng, 50))
    v, u = np.meshgrid(np.arange(d.SIZE), np.arange(d.SIZE), indexing="ij")
    period = rng.uniform(5, 10)
    shift = rng.uniform(0, 10, size=2)
    tilt = rng.uniform(-0.15, 0.15)
    across = (u + tilt * v + shift[0]) * 2 * pi / period
    down = (v - tilt * u + shift[1]) * 2 * pi / period
    wave = [
        lambda: np.sin(down) > 0,
        lambda: np.sin(across) > 0,
        lambda: np.sin((across + down) * 0.75) > 0,
        lambda: np.sin(across) * np.sin(down) > 0,
        lambda: np.sin(across) + np.sin(down) > 0.9,
        lambda: (np.sin(across) > 0.75) | (np.sin(down) > 0.75),
        lambda: rng.random((d.SIZE, d.SIZE)) > rng.uniform(0.4, 0.6),
        lambda: np.sin(np.hypot(u - 16 - shift[0] + 5, v - 16 - shift[1] + 5) * 2 * pi / period) > 0,
    ][label]()
    pixels = np.where(wave[..., None], ink, paper) + rng.normal(0, rng.uniform(2, 14), size=(d.SIZE, d.SIZE, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _count(rng: np.random.Generator, label: int) -> np.ndarray:
    ink, paper = d.two_colours(rng)
    canvas = d.Canvas(paper)
    cells = rng.permutation(9)[: label + 1]
    outline = list(d.OUTLINES.values())[int(rng.integers(0, 3))]
    radius = rng.uniform(0.08, 0.13)
    for cell in cells:
        x, y = (cell % 3 + 0.5) / 3, (cell // 3 + 0.5) / 3
        x, y = np.add((x, y), rng.uniform(-0.03, 0.03, size=2))
        canvas.polygon(d.place(outline, x, y, radius, rng.uniform(-0.5, 0.5)), d.jitter(rng, ink))
    return canvas.finish(rng)


def _arrow(rng: np.random.Generator, label: int) -> np.ndarray:
    ink, paper = d.two_colours(rng)
    canvas = d.Canvas(paper)
    turn = -label * pi / 4 + rng.uniform(-0.22, 0.22)
    canvas.polygon(d.place(d.arrow(), *_spot(rng, 0.3, 0.46), turn), ink)
    return canvas.finish(rng)


def _coloured(rng: np.random.Generator, label: int) -> np.ndarray:
    grey = int(rng.integers(90, 180))
    canvas = d.Canvas(d.jitter(rng, (grey, grey, grey), 10))
    outlines = list(d.OUTLINES.values())
    colour = d.jitter(rng, list(d.PALETTE.values())[label], 24)
    for _ in range(int(rng.integers(1, 4))):
        outline = outlines[int(rng.integers(0, len(outlines)))]
        canvas.polygon(d.place(outline, *_spot(rng, 0.12, 0.3), rng.uniform(-pi, pi)), colour)
    return canvas.finish(rng)


def _face(rng: np.random.Generator, label: int) -> np.ndarray:
    """Mouth, eyes and brows carry the class: happy, sad, surprised, angry, asleep, winking."""
    skin = d.jitter(rng, (236, 196, 140), 40)
    ink = d.jitter(rng, (40, 30, 30), 25)
    canvas = d.Canvas(d.jitter(rng, (120, 150, 190), 70))
    x, y = rng.uniform(0.44, 0.56, size=2)
    r = rng.uniform(0.32, 0.42)
    width = 0.05
    canvas.disc(x, y, r, skin)
    mouth = y + 0.42 * r
    if label in (0, 5):
        canvas.arc(x, mouth - 0.3 * r, (0.5 * r, 0.45 * r), (20, 160), ink, width)
    elif label in (1, 3):
        canvas.arc(x, mouth + 0.35 * r, (0.45 * r, 0.4 * r), (205, 335), ink, width)
    elif label == 2:
        canvas.disc(x, mouth, 0.24 * r, ink)
    else:
        canvas.line([(x - 0.3 * r, mouth), (x + 0.3 * r, mouth)], ink, width)
    for side in (-1, 1):
        eye = (x + side * 0.4 * r, y - 0.25 * r)
        closed = label == 4 or (label == 5 and side == 1)
        if closed:
            canvas.line([(eye[0] - 0.18 * r, eye[1]), (eye[0] + 0.18 * r, eye[1])], ink, width)
        else:
            canvas.disc(*eye, (0.2 if label == 2 else 0.13) * r, ink)
        if label == 3:
            brow = [(eye[0] - side * 0.2 * r, eye[1] - 0.16 * r), (eye[0] + side * 0.25 * r, eye[1] - 0.42 * r)]
            canvas.line(brow, ink, width)
    return canvas.finish(rng)


_SHAPES = tuple(d.OUTLINES)
_ARROWS = ("right", "upper right", "up", "upper left", "left", "lower left", "down", "lower right")
_TEXTURES = (
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "a checkerboard",
    "dots",
    "a grid",
    "noise",
    "rings",
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("digits", "handwriting", NUMBERS, ("a handwritten digit {c}.", "the number {c}."), None),
        Task("printed_digits", "print", NUMBERS, ("a printed digit {c}.", "the number {c}."), _printed_digit),
        Task("letters", "print", tuple(LETTERS.lower()), ("a printed letter {c}.", "the letter {c}."), _letter),
        Task("shapes", "drawing", _SHAPES, ("a sign with a {c}.", "a picture of a {c}."), _shape),
        Task("textures", "pattern", _TEXTURES, ("a pattern of {c}.", "a texture with {c}."), _texture),
        Task("counting", "scene", NUMBERS[1:7], ("{c} objects.", "a picture of {c} objects."), _count),
        Task("orientation", "drawing", _ARROWS, ("an arrow to the {c}.", "an arrow pointing {c}."), _arrow),
        Task("colours", "scene", tuple(d.PALETTE), ("a {c} object.", "something {c}."), _coloured),
        Task(
            "faces",
            "drawing",
            ("happy", "sad", "surprised", "angry", "sleeping", "winking"),
            ("a {c} face.", "somebody {c}."),
            _face,
        ),
        Task("sketches", "drawing", _SHAPES, ("a sketch of a {c}.", "a picture of a {c}."), _sketch),
    )
}
assert tuple(TASKS) == NAMES


@cache
def _handwritten() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits of 8 x 8 of scikit-learn, dark on light, enlarged: uint8 [1797, 32, 32, 3], labels [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = (255 - bunch.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((d.SIZE, d.SIZE), Image.Resampling.BICUBIC) for image in small]
    return np.stack([np.asarray(image.convert("RGB")) for image in large]), bunch.target.astype(np.int64)


def sample(name: str, split: str, per_class: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw `per_class` images of every class of a task.

    Parameters
    ----------
    name, split : a key of TASKS and one of SPLITS; splits never share an image.
    per_class : images per class. The handwritten digits have about 140 (train), 20 (target) and 20 (test) per class; a
        larger number gives all of them.
    seed : with the task and the split it fixes every pixel.

    Returns
    -------
    images uint8 [N, 32, 32, 3] and labels int64 [N], classes in turn (0, 1, ..., 0, 1, ...).
    """
    task = TASKS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), SPLITS.index(split)])
    if task.draw is not None:
        labels = np.tile(np.arange(len(task.classes)), per_class)
        return np.stack([task.draw(rng, int(label)) for label in labels]), labels
    images, labels = _handwritten()
    order = np.random.default_rng(seed).permutation(len(images))
    ninth = np.arange(len(order)) % 9
    pool = order[{"test": ninth == 0, "target": ninth == 1, "train": ninth > 1}[split]]
    rank = np.zeros(len(pool), dtype=np.int64)
    for label in range(len(task.classes)):
        mine = labels[pool] == label
        rank[mine] = np.arange(mine.sum())
    pool = pool[np.lexsort((labels[pool], rank))]
    pool = pool[np.sort(rank) < per_class]
    return images[pool], labels[pool]


def write_dataset(name: str, folder: Path, *, unlabelled: int = 32, per_class: int = 25, seed: int = 0) -> Path:
    """Write a task as a folder of PNG files and return the folder of its labelled images.

    `folder` gets dataset.yaml, target/ (`unlabelled` images in random order) and test/ or, for the target task,
    held_out/ with `per_class` images in each `<index>_<class>/`.
    """
    task = TASKS[name]
    labelled = folder / ("held_out" if name == TARGET else "test")
    images, _ = sample(name, "target", -(-unlabelled // len(task.classes)), seed=seed)
    (folder / "target").mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(images))[:unlabelled]
    for position, index in enumerate(order):
        Image.fromarray(images[index]).save(folder / "target" / f"{position:04d}.png", compress_level=1)
    images, labels = sample(name, "test", per_class, seed=seed)
    for label, class_name in enumerate(task.classes):
        (labelled / f"{label:02d}_{class_name}").mkdir(parents=True, exist_ok=True)
    for position, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = labelled / f"{label:02d}_{task.classes[label]}" / f"{position:04d}.png"
        Image.fromarray(image).save(place, compress_level=1)
    sheet = {
        "name": name,
        "domain": task.domain,
        "classes": list(task.classes),
        "templates": list(task.templates),
    }
    with atomic(folder / "dataset.yaml") as partial:
        partial.write_text(yaml.safe_dump(sheet, sort_keys=False), encoding="utf-8")
    return labelled
