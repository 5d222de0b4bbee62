"""Stain augmentation: the same field as another laboratory's stain and another scanner show it.

    augmentation = StainAugmentation()
    image = augmentation(image, np.random.default_rng(0))       # float32 (h, w, 3), 0 to 1

Stain absorbs light exponentially (Beer-Lambert), so it is changed in optical density: each
channel's density is mixed a little with the others' and scaled, then turned back into light over
glass of another white. Blur and noise stand for focus and camera. After Tellez et al. (2018),
Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference, IEEE Transactions
on Medical Imaging 37:2126-2136, who do so per stain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DARKEST = 1 / 255


@dataclass(frozen=True)
class StainAugmentation:
    """Random changes of stain, light and focus; where nuclei lie does not change.

    Args:
        strength: Standard deviation of the logarithm of the stain's strength.
        mixing: Of the entries that mix the channels' optical densities.
        white: Of the colour of the glass, relative.
        blur: Largest deviation of the blur, pixels; half of the images are blurred.
        noise: Largest deviation of the noise, of 1.
    """

    strength: float = 0.2
    mixing: float = 0.04
    white: float = 0.04
    blur: float = 1.0
    noise: float = 0.02

    def __call__(self, image: NDArray[np.float32], rng: np.random.Generator
                 ) -> NDArray[np.float32]:
        """One image, changed.

        Args:
            image: float `(h, w, 3)`, RGB, 0 to 1.
            rng: Draws the changes.
        """
        density = -np.log(np.maximum(image, DARKEST)).astype(np.float32)
        mix = np.eye(3) + rng.normal(0, self.mixing, (3, 3))
        mix *= np.exp(rng.normal(0, self.strength))
        light = np.exp(-np.maximum(density @ mix.astype(np.float32), 0))
        light *= (1 + rng.normal(0, self.white, 3)).astype(np.float32)
        if rng.random() < 0.5:
            spread = rng.uniform(0, self.blur)
            light = ndimage.gaussian_filter(light, (spread, spread, 0), truncate=3.0)
        light += rng.normal(0, rng.uniform(0, self.noise), light.shape).astype(np.float32)
        return np.clip(light, 0, 1).astype(np.float32)
