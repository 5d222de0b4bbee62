"""What a treatment's name means, and what it does to kernels."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.quantization import Compression, share_weights
from cxcompress.search.treatments import ORIGINAL, Series


def kernels():
    random = np.random.default_rng(0)
    return {"conv/kernel": (random.normal(size=(3, 3, 4, 8)).astype(np.float32), "conv"),
            "head/kernel": (random.normal(size=(8, 5)).astype(np.float32), "dense")}


@pytest.mark.parametrize("name, names", [
    ("L1", ["L1@0.5", "L1@0.9"]), ("random-layer", ["random-layer@0.5", "random-layer@0.9"]),
    ("uCWS", ["uCWS@16", "uCWS@2"]), ("L1+uUQ=256", ["L1+uUQ=256@0.5", "L1+uUQ=256@0.9"]),
    ("L1=0.5+PWS", ["L1=0.5+PWS@16", "L1=0.5+PWS@2"])])
def test_levels_run_from_mild_to_hard(name, names):
    treatments = Series.parse(name).treatments((0.9, 0, 0.5), (2, 16))
    assert [treatment.name for treatment in treatments] == names
    assert ORIGINAL.name == "original"


@pytest.mark.parametrize("name, said", [
    ("", "no such treatment"), ("L2", "no such"), ("L1+", "no such"), ("L1uUQ", "no such"),
    ("L1=0.5", "leave one number out"), ("L1=0.5+uUQ=16", "leave one number out"),
    ("L1+uUQ", "2 of its numbers"), ("uXY", "no such compression"), ("TCQ", "TCQ"),
    ("L1=1.5+uUQ", "no such")])
def test_other_names_are_refused_in_one_line(name, said):
    with pytest.raises(InputError, match=said):
        Series.parse(name)


def test_levels_out_of_range_are_refused():
    with pytest.raises(InputError, match="--sparsities 1"):
        Series.parse("L1").treatments((0.5, 1.0), ())
    with pytest.raises(InputError, match="--levels 1"):
        Series.parse("uUQ").treatments((), (1,))


def test_pruning_alone_leaves_the_other_weights_as_they_were():
    treatment, = Series.parse("L1").treatments((0.9,), ())
    shared = treatment.apply(kernels())
    total = kept = 0
    for path, (array, _) in kernels().items():
        pruned = shared.unshared[path]
        assert ((pruned == array) | (pruned == 0)).all()
        total, kept = total + array.size, kept + np.count_nonzero(pruned)
    assert kept == total - int(0.9 * total + 1e-9)


def test_sharing_alone_is_that_of_the_compression():
    treatment, = Series.parse("uCWS").treatments((), (4,))
    ours = treatment.apply(kernels(), seed=3)
    theirs = share_weights(kernels(), Compression.parse("uCWS", clustercnn=4, clusterfc=4))
    for path in kernels():
        assert np.array_equal(ours.kernel(path), theirs.kernel(path))


@pytest.mark.parametrize("compression", ["uUQ", "uCWS", "PWS", "ECSQ"])
def test_pruned_then_shared_keeps_what_is_pruned_at_zero(compression):
    treatment, = Series.parse(f"L1=0.8+{compression}").treatments((), (16,))
    shared = treatment.apply(kernels(), seed=1)
    masks = treatment.masks(kernels(), 1)
    for path, (array, _) in kernels().items():
        assert (shared.kernel(path)[~masks[path]] == 0).all()
        assert shared.kernel(path).shape == array.shape
    assert all(book.k <= 16 and book.zero is not None for book in shared.codebooks.values())
