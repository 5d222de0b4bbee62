"""A small container with something in every part, and how two containers are compared."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.representation import Codebook, SharedKernel, SharedWeights
from cxcompress.storage import Container, Graph, ModelCard


def small_container(seed: int = 0) -> Container:
    rng = np.random.default_rng(seed)
    grid = np.float32(0.01) * np.arange(-8, 8, dtype=np.float32)
    codebooks = {
        "conv": Codebook(np.sort(rng.normal(size=40)).astype(np.float32)),
        "dense/kernel": Codebook(grid, zero=8, step=0.01),
        "depthwise": Codebook(np.float32([0.25])),
    }
    codes = np.clip(rng.normal(20, 3, (3, 3, 16, 24)), 0, 39).astype(np.uint8)
    kernels = {
        "conv2d/kernel": SharedKernel(codes, "conv"),
        "conv2d_1/kernel": SharedKernel(codes[:, :, :, :5], "conv"),
        "dense/kernel": SharedKernel(rng.integers(0, 16, (30, 2)).astype(np.uint8), "dense/kernel"),
        "depthwise/kernel": SharedKernel(np.zeros((3, 3, 4, 1), np.uint8), "depthwise"),
    }
    unshared = {
        "conv2d/bias": rng.normal(size=24).astype(np.float32),
        "batch_normalization/gamma": np.ones(24, np.float32),
        "half/kernel": rng.normal(size=(2, 3)).astype(np.float16),
        "dropout/seed": np.array([1, 2**32 - 1], np.uint32),
        "mask": np.array([[True], [False]]),
        "count": np.array(7, np.int32),
        "none": np.empty((0, 3), np.float32),
    }
    graph = {"int8": Graph(bytes(500) + rng.bytes(100), {"kernels": [{"at": [4, 60]}]}),
             "float32": Graph(b"TFL3", {})}
    card = ModelCard(
        task="multilabel", classes=("effusion", "Knötchen"), thresholds=(0.25, 0.5),
        preprocessing={"size": (64, 64), "mean": [0.5]}, recommended_plan="int8",
        provenance={"net": "net.h5", "seed": np.int64(3)},
        metrics={"auroc": np.float64(0.75), "undefined": float("nan")},
        licence="CC BY 4.0", synthetic=True)
    return Container(SharedWeights(codebooks, kernels, unshared), '{"class_name": "Functional"}',
                     graph, card, "uCWS")


def assert_same_arrays(found, expected) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def assert_same_container(found: Container, expected: Container) -> None:
    assert list(found.shared.codebooks) == list(expected.shared.codebooks)
    for name, codebook in expected.shared.codebooks.items():
        other = found.shared.codebooks[name]
        assert other.values.tobytes() == codebook.values.tobytes()
        assert (other.zero, other.step) == (codebook.zero, codebook.step)
    assert_same_arrays({p: k.indices for p, k in found.shared.kernels.items()},
                       {p: k.indices for p, k in expected.shared.kernels.items()})
    assert {p: k.codebook for p, k in found.shared.kernels.items()} == {
        p: k.codebook for p, k in expected.shared.kernels.items()}
    assert_same_arrays(found.shared.unshared, expected.shared.unshared)
    for name in ("architecture", "graph", "card", "compression"):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.fixture
def container() -> Container:
    return small_container()


@pytest.fixture
def same_container():
    return assert_same_container
