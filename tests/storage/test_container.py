"""Laws of the container: read(write(c)) is c, files are reproducible, whole, and accounted for."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxcompress.errors import InputError
from cxcompress.representation import (
    Codebook,
    SharedKernel,
    SharedWeights,
    entropy_bits,
    index_dtype,
)
from cxcompress.storage import (
    Container,
    Graph,
    ModelCard,
    is_container,
    read_card,
    read_container,
    read_sizes,
    write_container,
)

CODERS = ("rans", "raw", "index_map", "sparse_huffman", "smallest")

names = st.text(st.characters(exclude_categories=()), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6)
unshared_arrays = st.sampled_from(
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
     "float16", "float32", "float64"]
).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))


@st.composite
def codebooks(draw):
    if draw(st.booleans()):
        integers = sorted(draw(st.sets(st.integers(-127, 127), min_size=1, max_size=20)))
        step = draw(st.sampled_from([0.5, 0.003, 1e-6, float(np.float32(0.01))]))
        values = (np.array(integers) * step).astype(np.float32)
        zero = integers.index(0) if 0 in integers and draw(st.booleans()) else None
        return Codebook(values, zero, step)
    count = draw(st.sampled_from([1, 2, 17, 256, 300]))
    values = np.random.default_rng(draw(st.integers(0, 9))).normal(size=count)
    return Codebook(np.sort(values).astype(np.float32))


@st.composite
def containers(draw):
    books = draw(st.dictionaries(names, codebooks(), min_size=1, max_size=3))
    kernels = {}
    for path in draw(st.sets(names, max_size=4)):
        book = draw(st.sampled_from(sorted(books)))
        k = books[book].k
        indices = draw(hnp.arrays(index_dtype(k), hnp.array_shapes(min_dims=0, min_side=0),
                                  elements=st.integers(0, k - 1)))
        kernels[path] = SharedKernel(indices, book)
    mapping = st.dictionaries(names, json_values, max_size=3)
    card = ModelCard(
        draw(names), tuple(draw(st.lists(names, max_size=3))),
        draw(st.none() | st.tuples(st.floats(0, 1))), draw(st.none() | mapping),
        draw(st.none() | names), draw(mapping), draw(mapping), draw(names), draw(st.booleans()))
    graphs = st.dictionaries(st.from_regex(r"[A-Za-z0-9_]{1,9}", fullmatch=True),
                             st.builds(Graph, st.binary(max_size=99), mapping), max_size=2)
    shared = SharedWeights(
        books, kernels, draw(st.dictionaries(names, unshared_arrays, max_size=4)))
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
    return Container(shared, draw(text), draw(graphs), card, draw(text))


@given(containers(), st.sampled_from(CODERS))
@settings(max_examples=60,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_read_gives_back_what_was_written(tmp_path, same_container, container, coder):
    path = tmp_path / "model.h5"
    sizes = write_container(path, container, coder=coder, overwrite=True)
    same_container(read_container(path), container)
    assert sizes.total == path.stat().st_size == sum(sizes.parts().values())
    assert read_sizes(path) == sizes


@pytest.mark.parametrize("coder", CODERS)
def test_everything_at_once_comes_back_and_the_file_is_reproducible(
    tmp_path, container, same_container, coder
):
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    write_container(first, container, coder=coder)
    time.sleep(1.1)  # HDF5's time stamps count seconds
    write_container(second, container, coder=coder)
    assert first.read_bytes() == second.read_bytes()
    same_container(read_container(first), container)
    assert read_card(first) == container.card
    assert is_container(first) and h5py.is_hdf5(first)


def test_smallest_is_no_larger_than_any_coder(tmp_path, container):
    totals = {coder: write_container(tmp_path / coder, container, coder=coder).total
              for coder in CODERS}
    assert totals["smallest"] == min(totals.values())


def test_the_user_block_seals_the_rest(tmp_path, container):
    path = tmp_path / "model.h5"
    write_container(path, container)
    content = path.read_bytes()
    assert content[:8] == b"\x89CXC\r\n\x1a\n"
    assert int.from_bytes(content[8:12], "little") == 3
    assert int.from_bytes(content[16:24], "little") == len(content)
    assert content[24:56] == hashlib.sha256(content[512:]).digest()
    assert not any(content[56:512])


def test_a_network_of_many_kernels_costs_little_more_than_its_entropy(tmp_path):
    rng = np.random.default_rng(0)
    sizes = np.geomspace(400, 60_000, 46).astype(int)
    kernels = {f"conv2d_{i}/kernel": SharedKernel(
        np.clip(np.rint(rng.laplace(128, 12 * rng.uniform(0.6, 1.6), size)), 0, 255)
        .astype(np.uint8), "conv") for i, size in enumerate(sizes)}
    codebook = Codebook(np.sort(rng.normal(size=256)).astype(np.float32))
    container = Container(SharedWeights({"conv": codebook}, kernels), "{}")
    written = write_container(tmp_path / "model.h5", container)
    bound = sum(entropy_bits(kernel.indices, 256) * kernel.indices.size / 8
                for kernel in kernels.values())
    assert written.streams + written.tables + written.states < 1.01 * bound
    assert written.overhead < 6500
    assert written.total < 1.01 * bound + 8000


def test_a_real_network_is_a_quarter_of_its_size(tmp_path, shared_data):
    with h5py.File(shared_data / "covid_cxr_keras2.h5") as file:
        arrays = {}
        file["model_weights"].visititems(
            lambda name, item: arrays.__setitem__(name, item[()])
            if isinstance(item, h5py.Dataset) else None)
    floats = {name: array for name, array in arrays.items() if array.ndim < 2}
    weights = {name: array for name, array in arrays.items() if array.ndim >= 2}
    flat = np.concatenate([array.ravel() for array in weights.values()])
    values = np.unique(np.quantile(flat, np.linspace(0, 1, 256)).astype(np.float32))
    middles = (values[1:] + values[:-1]) / 2
    kernels = {name: SharedKernel(np.searchsorted(middles, array).astype(np.uint8), "all")
               for name, array in weights.items()}
    container = Container(SharedWeights({"all": Codebook(values)}, kernels, floats), "{}")
    sizes = write_container(tmp_path / "model.h5", container)
    assert sizes.total / (4 * sum(array.size for array in arrays.values())) < 0.27
    decoded = read_container(tmp_path / "model.h5").shared.weights()
    for name, array in container.shared.weights().items():
        np.testing.assert_array_equal(decoded[name], array)


# Writing: whole or not at all.

def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path, container):
    path = tmp_path / "model.h5"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists; give --overwrite"):
        write_container(path, container)
    assert path.read_text() == "mine"
    write_container(path, container, overwrite=True)
    assert is_container(path)
    with pytest.raises(InputError, match="is a folder"):
        write_container(tmp_path, container, overwrite=True)


def test_a_full_disk_leaves_nothing_behind(tmp_path, container):
    path = tmp_path / "model.h5"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="model.h5: cannot be written"):
            write_container(path, container)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_what_the_format_cannot_hold_is_named(tmp_path):
    def written(**unshared):
        shared = SharedWeights({}, {}, unshared)
        write_container(tmp_path / "model.h5", Container(shared, "{}"))

    with pytest.raises(InputError, match="the weight text is of type <U1"):
        written(text=np.array(["a"]))
    with pytest.raises(InputError, match="more than this file may hold"):
        written(zeros=np.zeros(1 << 25, np.float32))
    book = {"c": Codebook(np.float32([0, 1]))}
    huge = np.broadcast_to(np.uint8(0), (1 << 14, (1 << 12) + 1))
    with pytest.raises(InputError, match="more than a file of"):
        write_container(tmp_path / "model.h5", Container(
            SharedWeights(book, {"a": SharedKernel(huge, "c")}), "{}"))
    with pytest.raises(ValueError, match="coders are"):
        write_container(tmp_path / "model.h5", Container(SharedWeights({}, {}), "{}"), coder="zip")
    with pytest.raises(ValueError, match="plan name"):
        Container(SharedWeights({}, {}), "{}", {"a/b": Graph(b"")})
    assert list(tmp_path.iterdir()) == []


def test_model_cards_come_back_from_json_and_refuse_other_types(container):
    card = container.card
    assert ModelCard.from_dict(card.to_dict()) == card
    assert card.metrics == {"auroc": 0.75, "undefined": None}
    assert card.preprocessing == {"size": [64, 64], "mean": [0.5]}
    for wrong in ({"task": 3}, {"classes": "ab"}, {"thresholds": (float("nan"),)},
                  {"metrics": None}, {"provenance": {"f": print}}, {"synthetic": "no"}):
        with pytest.raises(ValueError, match="Received"):
            dataclasses.replace(card, **wrong)
    with pytest.raises(ValueError, match="Received: colour"):
        ModelCard.from_dict({"colour": "red"})


@settings(max_examples=60)
@given(st.integers(-40_000, 40_000), st.lists(st.integers(1, 300), min_size=0, max_size=60),
       st.floats(2.0**-99, 2.0**99, width=32), st.booleans(), st.booleans())
def test_codebooks_come_back_exactly_on_a_grid_or_not(first, gaps, step, known, shaken):
    integers = first + np.cumsum([0, *gaps])
    values = (integers * np.float64(np.float32(step))).astype(np.float32)
    if shaken:
        values[-1] = np.nextafter(values[-1], np.float32(np.inf))
    values = np.unique(values[np.isfinite(values)])
    if not values.size:
        return
    step = float(np.float32(step)) if known and np.abs(integers).max() <= 127 and (
        not shaken) else None
    book = Codebook(values, step=step)
    shared = SharedWeights({"a": book, "b": Codebook(np.float32([-1, 2])), "c": book}, {
        f"{name}/kernel": SharedKernel(np.zeros((2, 2), index_dtype(k)), name)
        for name, k in (("a", book.k), ("b", 2), ("c", book.k))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        write_container(path, Container(shared, "{}"), coder="raw")
        found = read_container(path).shared.codebooks
    for name, expected in shared.codebooks.items():
        assert found[name].values.tobytes() == expected.values.tobytes()
        assert found[name].step == expected.step


def test_a_wide_grid_takes_next_to_nothing(tmp_path):
    values = np.arange(-600, 601, dtype=np.float32) * np.float32(0.0123)
    shared = SharedWeights({"a": Codebook(values)}, {
        "a/kernel": SharedKernel(np.zeros((2, 2), np.uint16), "a")})
    assert write_container(tmp_path / "model.h5", Container(shared, "{}")).codebooks < 60
