"""Fixed probe images that place a model's path points, so that a result depends on no other image."""

from __future__ import annotations

import numpy as np
from PIL import Image

GOLDEN = (5**0.5 - 1) / 2


def probe_images(count: int = 2, size: int = 256, *, waves: int = 8) -> list[Image.Image]:
    """Return `count` smooth colour pictures whose amplitudes fall with frequency, as those of photographs do.

    Each channel is 1/2 + a sum of cosines of frequency f = (f_x, f_y), |f_x|, f_y <= `waves`, amplitude 1 / |f| and
    phases from the multiples of the golden ratio, brought to a standard deviation of 0.22; two thirds of it are common
    to the channels. No random numbers: the same on every machine, up to the rounding to 8 bits.

    References
    ----------
    Field, Relations between the statistics of natural images and the response properties of cortical cells, 1987.

    Examples
    --------
    >>> [(picture.size, picture.mode) for picture in probe_images(1, size=32)]
    [((32, 32), 'RGB')]
    """
    x = np.arange(size) / size
    frequencies = [(u, v) for u in range(-waves, waves + 1) for v in range(waves + 1) if (v, u) > (0, 0)]
    pictures = []
    for picture in range(count):
        planes = []
        for plane in range(4):
            total = np.zeros((size, size))
            for index, (u, v) in enumerate(frequencies):
                phase = (index + 1) * (4 * picture + plane + 1) * GOLDEN % 1
                total += np.cos(2 * np.pi * (u * x[None, :] + v * x[:, None] + phase)) / np.hypot(u, v)
            planes.append(total / total.std())
        channels = [np.sqrt(2 / 3) * planes[0] + np.sqrt(1 / 3) * plane for plane in planes[1:]]
        values = np.clip(0.5 + 0.22 * np.stack(channels, -1), 0, 1)
        pictures.append(Image.fromarray(np.round(255 * values).astype(np.uint8)))
    return pictures
