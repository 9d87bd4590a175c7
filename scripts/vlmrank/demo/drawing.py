"""Drawing primitives for the demo's images: canvas, colours, outlines of shapes.

Every function takes its own `numpy.random.Generator`; coordinates are in [0, 1] with y downwards.
"""

from collections.abc import Sequence
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 32
"""Edge of every image in pixels."""

SCALE = 3
"""The canvas is SIZE * SCALE pixels wide and is averaged down, so that edges are smooth."""

Colour = tuple[int, int, int]
Point = tuple[float, float]

PALETTE: dict[str, Colour] = {
    "red": (214, 40, 40),
    "green": (44, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 214, 50),
    "orange": (240, 130, 30),
    "purple": (130, 50, 170),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}


def jitter(rng: np.random.Generator, colour: Colour, amount: int = 18) -> Colour:
    """The colour with up to `amount` grey levels added to or taken from each channel."""
    r, g, b = (int(np.clip(c + rng.integers(-amount, amount + 1), 0, 255)) for c in colour)
    return r, g, b


def two_colours(rng: np.random.Generator, contrast: int = 70, tint: int = 45) -> tuple[Colour, Colour]:
    """Dark ink and light paper at least `contrast` grey levels apart, each with a tint of up to `tint` grey levels."""
    dark = int(rng.integers(15, 120))
    light = int(rng.integers(dark + contrast, 250))
    return jitter(rng, (dark,) * 3, tint), jitter(rng, (light,) * 3, tint)


class Canvas:
    """An image in the making: draw in unit coordinates, then `finish` to uint8 [SIZE, SIZE, 3]."""

    def __init__(self, paper: Colour) -> None:
        self.edge = SIZE * SCALE
        self.image = Image.new("RGB", (self.edge, self.edge), paper)
        self.pen = ImageDraw.Draw(self.image)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.edge, y * self.edge) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self.pen.polygon(self._scaled(points), fill=fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        self.pen.line(self._scaled(points), fill=fill, width=max(1, round(width * self.edge)), joint="curve")

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.pen.ellipse(self._scaled([(x - radius, y - radius), (x + radius, y + radius)]), fill=fill)

    def arc(self, x: float, y: float, radius: Point, degrees: Point, fill: Colour, width: float) -> None:
        box = self._scaled([(x - radius[0], y - radius[1]), (x + radius[0], y + radius[1])])
        self.pen.arc(box, *degrees, fill=fill, width=max(1, round(width * self.edge)))

    def glyph(self, text: str, x: float, y: float, height: float, fill: Colour, angle: float = 0.0) -> None:
        """A character of Pillow's own font, centred, turned by `angle` degrees."""
        font = ImageFont.load_default(size=height * self.edge)
        mask = Image.new("L", self.image.size, 0)
        ImageDraw.Draw(mask).text((self.edge / 2, self.edge / 2), text, fill=255, font=font, anchor="mm")
        shift = ((0.5 - x) * self.edge, (0.5 - y) * self.edge)
        mask = mask.rotate(angle, Image.Resampling.BILINEAR)
        mask = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, shift[0], 0, 1, shift[1]))
        self.image.paste(fill, mask=mask)

    def finish(self, rng: np.random.Generator, noise: float = 10.0) -> np.ndarray:
        """Average down, add a slope of light and Gaussian noise of up to `noise` grey levels."""
        pixels = np.asarray(self.image.reduce(SCALE), dtype=np.float32)
        ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
        slope = rng.normal(0, 8, size=2).astype(np.float32)
        pixels = pixels + (ramp[None, :, None] * slope[0] + ramp[:, None, None] * slope[1])
        pixels = pixels + rng.normal(0, rng.uniform(0, noise), size=pixels.shape).astype(np.float32)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def place(points: Sequence[Point], x: float, y: float, radius: float, angle: float) -> list[Point]:
    """Points around the origin, turned by `angle` radians, enlarged by `radius` and moved to (x, y)."""
    c, s = cos(angle), sin(angle)
    return [(x + radius * (c * u - s * v), y + radius * (s * u + c * v)) for u, v in points]


def regular(corners: int, start: float = -pi / 2) -> list[Point]:
    """A regular polygon with its first corner at the angle `start`."""
    turns = [start + 2 * pi * k / corners for k in range(corners)]
    return [(cos(t), sin(t)) for t in turns]


def star(rays: int = 5, inner: float = 0.42) -> list[Point]:
    """A star with `rays` points, the first upwards."""
    outline = regular(2 * rays)
    return [(u * (inner if k % 2 else 1), v * (inner if k % 2 else 1)) for k, (u, v) in enumerate(outline)]


def cross(arm: float = 0.33) -> list[Point]:
    """A plus sign."""
    a = arm
    return [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]


def heart() -> list[Point]:
    """A heart, from the curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    t = np.linspace(0, 2 * pi, 40, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return list(zip(x.tolist(), y.tolist(), strict=True))


def crescent() -> list[Point]:
    """A moon: an outer arc and, inside it, a flatter one."""
    outer = [(cos(t), sin(t)) for t in np.linspace(0.3 * pi, 1.7 * pi, 24)]
    inner = [(0.28 + 0.66 * cos(t), 0.8 * sin(t)) for t in np.linspace(1.62 * pi, 0.38 * pi, 20)]
    return outer + inner


def arrow() -> list[Point]:
    """An arrow that points to the right."""
    return [(-1, -0.22), (0.1, -0.22), (0.1, -0.62), (1, 0), (0.1, 0.62), (0.1, 0.22), (-1, 0.22)]


OUTLINES: dict[str, list[Point]] = {
    "circle": regular(36),
    "square": regular(4, pi / 4),
    "triangle": regular(3),
    "star": star(),
    "cross": cross(),
    "heart": heart(),
    "moon": crescent(),
    "hexagon": regular(6),
}
