"""Wider variation of generated Ki-67 fields: laboratories, tissues and scanners unlike SHIDC's.

The standard fields of `synthetic_ki67.py` look like one laboratory's breast tumours. A network
that has seen nothing else misses nuclei of another stain, size or shape. `widened` moves a
patient away from that laboratory, by a severity drawn from 0 (the same) to 1: stain vectors,
strength of both stains, colour of the glass, cytoplasm, size, number, shape and granularity of the
nuclei, noise of the camera. The spreads are set by hand, from what differs between published
Ki-67 slides, and by no score on a real field.

    for image, cells, patient_id in generate_fields(60, variation="wide"):
        ...
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Patient = TypeVar("Patient")


def widened(patient: Patient, rng: np.random.Generator) -> Patient:
    """The patient in another laboratory.

    Args:
        patient: `synthetic_ki67`'s description of tumour, stain and camera.
        rng: Its own stream, so that the standard fields do not depend on it.
    """
    severity = rng.uniform(0, 1)

    def scaled(value: float, shift: float, spread: float, low: float, high: float) -> float:
        return float(np.clip(value * np.exp(severity * rng.normal(shift, spread)), low, high))

    return dataclasses.replace(
        patient,
        haematoxylin=_turned(patient.haematoxylin, 0.06 * severity, rng),
        dab=_turned(patient.dab, 0.06 * severity, rng),
        counterstain=scaled(patient.counterstain, 0.0, 0.45, 0.12, 1.1),
        chromogen=scaled(patient.chromogen, 0.15, 0.4, 0.35, 2.0),
        cytoplasm=scaled(patient.cytoplasm, -0.5, 0.8, 0.002, 0.18),
        background_dab=scaled(patient.background_dab, -0.4, 0.9, 0.0, 0.12),
        white=np.clip(patient.white * (1 + severity * rng.normal(0, 0.07, 3)), 140, 255),
        density=scaled(patient.density, -0.3, 0.5, 10, 160),
        radius=scaled(patient.radius, -0.05, 0.22, 3.6, 8.8),
        pleomorphism=scaled(patient.pleomorphism, 0.2, 0.4, 0.05, 0.32),
        noise=scaled(patient.noise, 0.2, 0.5, 0.5, 6.0),
        elongation=float(np.exp(severity * abs(rng.normal(0, 0.5)))),
        granularity=scaled(1.0, 0.2, 0.4, 0.6, 2.2),
    )


def _turned(vector: NDArray, spread: float, rng: np.random.Generator) -> NDArray:
    """A stain vector of another direction, of length 1."""
    vector = np.clip(vector + rng.normal(0, spread, 3), 0.03, None)
    return vector / np.linalg.norm(vector)
