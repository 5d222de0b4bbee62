"""The coder `context`: exact, smaller where scales differ or a trellis code is obeyed, safe."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress import representation
from cxcompress.quantization import TrellisQuantizer
from cxcompress.representation import EncodedIndices, EncodedKernel, EncodedKernels, context
from cxcompress.representation.chains import MAX_STEPS, ChainLayout, as_matrix
from cxcompress.representation.context import MAX_WEIGHTS_A_LANE

shapes = st.lists(st.lists(st.integers(0, 7), min_size=0, max_size=4), min_size=1, max_size=6)


@given(shapes)
@settings(max_examples=60)
def test_chains_hold_every_weight_once(found):
    layout = ChainLayout(found)
    kernels = [np.arange(np.prod(shape, dtype=int)).reshape(shape) for shape in found]
    sequence = layout.sequence(kernels, np.int64)
    assert sequence.size == layout.size == sum(kernel.size for kernel in kernels)
    for kernel, again in zip(kernels, layout.kernels(sequence), strict=True):
        np.testing.assert_array_equal(kernel, again)
    assert (np.diff(layout.widths) <= 0).all()


def test_a_chain_is_an_output_channel_and_long_ones_are_cut():
    assert as_matrix((3, 3, 16, 32)) == (144, 32, 16)
    assert as_matrix((3, 3, 16, 1)) == (9, 16, 3)
    assert as_matrix((7,)) == (1, 7, 0)
    layout = ChainLayout([(2 * MAX_STEPS + 1, 4)])
    assert [block.steps for block in layout.blocks] == [3073, 3073, 3071]
    kernel = np.arange(8 * MAX_STEPS + 4).reshape(-1, 4)
    np.testing.assert_array_equal(layout.sequence([kernel])[:12:4], kernel[[0, 3073, 6146], 0])


def bits_a_weight(name: str, kernels: dict) -> float:
    encoded = representation.get(name).encode_kernels(kernels)
    for path, indices in encoded.decode().items():
        np.testing.assert_array_equal(indices, kernels[path][0])
    return 8 * encoded.nbytes / sum(indices.size for indices, _ in kernels.values())


def test_scales_that_differ_by_channel_are_followed():
    random = np.random.default_rng(0)
    scale = np.exp(random.normal(0, 0.8, 128))
    kernel = np.rint(4 * scale * random.laplace(size=(3, 3, 64, 128))).astype(int)
    kernel = np.clip(kernel + 100, 0, 200).astype(np.uint8)
    ours = bits_a_weight("context", {"a": (kernel, 201)})
    assert ours < 0.96 * bits_a_weight("rans", {"a": (kernel, 201)})
    mean = np.abs(kernel.astype(int) - 100).mean()
    flat = np.rint(mean * random.laplace(size=kernel.shape)) + 100
    flat = np.clip(flat, 0, 200).astype(np.uint8)
    assert bits_a_weight("context", {"a": (flat, 201)}) < 1.01 * bits_a_weight(
        "rans", {"a": (flat, 201)})


def test_scales_of_outputs_inputs_and_places_multiply(monkeypatch):
    random = np.random.default_rng(0)
    scale = np.exp(random.normal(0, 0.7, (3, 3, 1, 1)) + random.normal(0, 0.7, (1, 1, 64, 1))
                   + random.normal(0, 0.7, (1, 1, 1, 96)))
    kernel = np.rint(3 * scale * random.laplace(size=(3, 3, 64, 96)))
    kernel = (np.clip(kernel, -100, 100) + 100).astype(np.uint8)
    product = bits_a_weight("context", {"a": (kernel, 201)})
    monkeypatch.setattr(context, "_MIXTURES", ((0, 0, 1), (200, 0, 16), (200, 20, 16)))
    assert product < 0.98 * bits_a_weight("context", {"a": (kernel, 201)})


def test_kernels_of_other_tails_get_tables_of_their_own(monkeypatch):
    random = np.random.default_rng(1)
    kernels = {}
    for name, tail in (("light", 0.3), ("middle", 1), ("heavy", 3), ("heavier", 4)):
        size = random.exponential(size=(3, 3, 48, 64)) ** tail
        signed = np.rint(6 * size / size.mean() * random.choice((-1, 1), size.shape))
        kernels[name] = (np.clip(signed, -100, 100) + 100).astype(np.uint8), 201
    together = representation.get("context").encode_kernels(kernels)
    model = context._read_model(together.buffers["context_tables"], 4)
    assert model.mixture[0] == context.SEPARABLE
    assert sorted(model.kernels["group"].tolist()) == [0, 1, 2, 3]
    assert model.kernels["group"][0] < model.kernels["group"][3]
    grouped = bits_a_weight("context", kernels)
    monkeypatch.setattr(context, "MAX_GROUPS", 1)
    assert grouped < 0.97 * bits_a_weight("context", kernels)


@given(shapes, st.integers(2, 40), st.integers(0, 2**32))
@settings(max_examples=40)
def test_products_of_scales_are_inverted_for_any_shapes(found, k, seed):
    random = np.random.default_rng(seed)
    kernels = {str(number): (np.clip(random.normal(k / 2, k / 6, shape), 0, k - 1).astype(
        np.uint8), k) for number, shape in enumerate(found)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_MIXTURES", ((context.SEPARABLE, 15, 16),))
        encoded = representation.get("context").encode_kernels(kernels)
    for path, indices in encoded.decode().items():
        np.testing.assert_array_equal(indices, kernels[path][0])


@pytest.mark.parametrize("shape", [(300_000, 2), (1, 1, 300_000, 2), (2, 130_000)])
def test_products_of_scales_take_little_memory_for_long_and_for_short_chains(shape, monkeypatch):
    """The reader's law: 3 × the decoded size, and 32 MB."""
    monkeypatch.setattr(context, "_MIXTURES", ((context.SEPARABLE, 15, 16),))
    kernel = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) % 7
    encoded = representation.get("context").encode_kernels({"a": (kernel.astype(np.uint8), 7)})
    tracemalloc.start()
    try:
        found = encoded.decode()["a"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, kernel)
    assert peak < 3 * 4 * kernel.size + (32 << 20)


def test_more_short_chains_than_memory_allows_are_packed_raw_and_refused(monkeypatch):
    kernels = {"a": (np.zeros((3, 300), np.uint8), 2)}
    monkeypatch.setattr(context, "MAX_SHORT_CHAINS", 200)
    assert representation.get("context").encode_kernels(kernels).kernels["a"].coder == "raw"
    monkeypatch.undo()
    encoded = representation.get("context").encode_kernels(kernels)
    assert encoded.kernels["a"].coder == "context"
    monkeypatch.setattr(context, "MAX_SHORT_CHAINS", 200)
    with pytest.raises(ValueError, match="300 chains of 900 indices"):
        encoded.decode()


def test_a_trellis_code_is_recognised_and_saves_a_bit():
    weights = np.random.default_rng(0).laplace(size=(3, 3, 40, 50)).astype(np.float32)
    quantizer = TrellisQuantizer(k=101, states=64).fit(weights)
    k = quantizer.codebook_.k
    indices = quantizer.assign(weights)
    other = np.random.default_rng(1).integers(0, k, (30, 20)).astype(np.uint8)
    coded = bits_a_weight("context", {"a": (indices, k), "b": (other, k)})
    assert bits_a_weight("context", {"a": (np.ascontiguousarray(indices[::-1]), k),
                                     "b": (other, k)}) > coded + 0.9


def test_kernels_of_few_and_of_many_levels_in_one_file():
    random = np.random.default_rng(3)
    kernels = {f"{k}": (random.integers(0, k, (5, k % 7 + 1, 9)).astype(
        representation.index_dtype(k)), k) for k in (1, 2, 3, 16, 256, 257, 2048, 2049, 65_536)}
    encoded = representation.get("context").encode_kernels(kernels)
    assert {path: kernel.coder for path, kernel in encoded.kernels.items()} == {
        path: "context" if int(path) <= 2048 else "raw" for path in kernels}
    for path, indices in encoded.decode().items():
        np.testing.assert_array_equal(indices, kernels[path][0])


@pytest.fixture(scope="module")
def code() -> EncodedIndices:
    weights = np.random.default_rng(0).laplace(size=(3, 3, 10, 20)).astype(np.float32)
    quantizer = TrellisQuantizer(k=41, states=8).fit(weights)
    return representation.get("context").encode(quantizer.assign(weights), 41)


@given(data=st.data())
@settings(max_examples=150)
def test_a_flipped_bit_gives_an_error_or_valid_indices(code, data):
    name = data.draw(st.sampled_from(sorted(code.buffers)))
    content = np.frombuffer(code.buffers[name].tobytes(), np.uint8).copy()
    bit = data.draw(st.integers(0, 8 * content.size - 1))
    content[bit // 8] ^= 1 << bit % 8
    changed = {**code.buffers, name: content.view(code.buffers[name].dtype)}
    try:
        decoded = EncodedIndices(code.coder, code.shape, code.k, changed).decode()
    except ValueError:
        return
    assert decoded.shape == code.shape and decoded.max() < code.k


def test_sizes_are_checked_before_memory_is_taken(code):
    for shape in ((10**12,), (10**6, 10**6), (MAX_WEIGHTS_A_LANE + 1,)):
        with pytest.raises(ValueError, match="lanes"):
            EncodedIndices("context", shape, code.k, code.buffers).decode()
    kernels = {name: EncodedKernel(code.shape, k, "context", 0) for name, k in (
        ("a", code.k), ("b", 4000))}
    with pytest.raises(ValueError, match="4000 levels"):
        EncodedKernels(kernels, code.buffers).decode()
