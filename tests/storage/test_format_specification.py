"""A reader written from `FORMAT.md` alone, without this package: h5py, NumPy, lzma and zlib."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import math
import zlib

import h5py
import numpy as np
import pytest

from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import context as context_coder
from cxcompress.storage import write_container


def read_as_specified(path) -> dict[str, np.ndarray]:
    """All weights by path; for the coders one index at a time, as the text of FORMAT.md goes."""
    content = path.read_bytes()
    assert content[:8] == b"\x89CXC\r\n\x1a\n"
    assert content[24:56] == hashlib.sha256(content[512:]).digest()
    with h5py.File(path) as file:
        index = json.loads(bytes(file["index"][()]))
        stored = {group: {name: file[group][name][()] for name in file[group]}
                  for group in ("codebooks", "kernels", "unshared")}
    weights, values, start = {}, {}, {"differences": 0, "float32": 0}
    for book in index["codebooks"]:
        kind = "differences" if book["integers"] else "float32"
        part = stored["codebooks"][kind][start[kind] :][: book["k"]]
        start[kind] += book["k"]
        if book["integers"]:
            integers = book["first"] + np.cumsum(part, dtype=int)
            part = np.float32(integers * np.float64(book.get("grid", book["step"])))
        values[book["name"]] = part
    kernels = [entry | {"k": len(values[entry["codebook"]]), "n": math.prod(entry["shape"])}
               for entry in index["kernels"]]
    for coder, decode in (("raw", raw), ("index_map", index_map), ("rans", rans),
                          ("context", context), ("huffman", huffman),
                          ("sparse_huffman", sparse_huffman),
                          ("sparse_index_map", sparse_index_map)):
        mine = [kernel for kernel in kernels if kernel["coder"] == coder]
        if mine:
            for kernel, indices in zip(mine, decode(mine, stored["kernels"]), strict=True):
                flat = values[kernel["codebook"]][np.array(indices, int)]
                weights[kernel["path"]] = flat.reshape(kernel["shape"])
    start = dict.fromkeys(stored["unshared"], 0)
    for entry in index["unshared"]:
        size, kind = math.prod(entry["shape"]), entry["dtype"]
        part = stored["unshared"][kind][start[kind] :][:size]
        start[kind] += size
        weights[entry["path"]] = part.astype(kind).reshape(entry["shape"])
    return weights


def raw(kernels, buffers):
    code, start = bytes(buffers["raw"]), 0
    for kernel in kernels:
        width = math.ceil(math.log2(kernel["k"]))
        length = math.ceil(kernel["n"] * width / 8)
        number = int.from_bytes(code[start : start + length], "little")
        start += length
        yield [number >> i * width & (1 << width) - 1 for i in range(kernel["n"])]


def index_map(kernels, buffers):
    code, start = bytes(buffers["index_map"]), 0
    for kernel in kernels:
        kind = np.dtype("u1" if kernel["k"] <= 256 else "<u2")
        yield np.frombuffer(code, kind, kernel["n"], start)
        start += kernel["n"] * kind.itemsize


def table(body, k):
    precision, code, codes = body[0], 0, []
    for difference in body[1 : 1 + k]:
        code = (code + difference) % 256
        codes.append(code)
    base = [4096, 4467, 4871, 5312, 5793, 6317, 6889, 7512]
    weights = [base[(q - 1) % 8] << (q - 1) // 8 if q else 0 for q in codes]
    used = sum(q > 0 for q in codes)
    shares = [1 + w * (2**precision - used) // sum(weights) if w else 0 for w in weights]
    shares[shares.index(max(shares))] += 2**precision - sum(shares)
    return precision, shares


def rans(kernels, buffers):
    body, tables = zlib.decompress(bytes(buffers["rans_tables"])), []
    levels = {kernel["table"]: kernel["k"] for kernel in kernels}
    for number in range(len(levels)):
        tables.append(table(body, levels[number]))
        body = body[1 + levels[number] :]
    words = iter(map(int, buffers["rans_words"]))
    states = list(map(int, buffers["rans_states"]))
    lanes = len(states)
    for kernel in kernels:
        precision, shares = tables[kernel["table"]]
        n = kernel["n"]
        if 2**precision in shares:
            yield [shares.index(2**precision)] * n
            continue
        slots = np.repeat(np.arange(len(shares)), shares)
        starts = np.cumsum(shares) - shares
        indices = []
        row = 0
        while row * lanes < n:
            pair = 2 if (row + 2) * lanes <= n else 1
            for lane in range(lanes):
                if row * lanes + lane >= n:
                    break
                for _ in range(pair):
                    slot = states[lane] % 2**precision
                    level = int(slots[slot])
                    states[lane] = (states[lane] >> precision) * shares[level] + (
                        slot - int(starts[level]))
                    indices.append((row + _, lane, level))
                if states[lane] < 2**32:
                    states[lane] = states[lane] << 32 | next(words)
            row += pair
        yield [level for _, _, level in sorted(indices)]
    assert all(state == 2**32 for state in states) and next(words, None) is None


def product(matrix, t, column, period, above, mean, earlier, present):
    """Scale of a weight as section 5b's product says it, in that order of operations."""
    size, chains = np.abs(matrix).astype(np.float64), matrix.shape[1]
    i = (above + t) % period
    here = slice(t - min(i, t), t)
    before = slice(t % period, t, period)
    plane = (size[here].sum() + 64 * mean) / (min(i, t) * chains + 64) / mean
    row = (size[before].sum() + 200 * mean) / (t // period * chains + 200) / mean
    chain = (size[:t, column].sum() + 16 * mean) / (t + 16)
    scale = (size[here, column].sum() + present * (chain * plane)) / (min(i, t) + present)
    together = earlier * (chain * row) + size[before, column].sum()
    return scale * (together / (t // period + earlier)) / chain


def context(kernels, buffers):
    stored = bytes(buffers["context_tables"])
    length = int.from_bytes(stored[:4], "little")
    head = zlib.decompress(stored[4 : 4 + length])
    body = zlib.decompress(stored[4 + length :])
    most, place, kernel_weight, reach = np.frombuffer(head, "<u2", 4).tolist()
    count, n, separable = head[8], len(kernels), most == 65535
    start, groups = (10, head[9]) if separable else (9, 1)
    table_of_class, start = head[start : start + 64 * groups], start + 64 * groups
    mean, centre, states, offset = np.frombuffer(head, "<u2", 4 * n, start).reshape(4, n).tolist()
    group = head[start + 8 * n :] if separable else bytes(n)
    assert len(group) == n
    levels = 2 * reach + 1
    tables = [body[i * (1 + levels) :][: 1 + levels] for i in range(count)]

    def shares_of(number, parity):
        codes = np.cumsum(list(tables[number][1:])) % 256
        kept = [int(code) if parity is None or (s - reach) % 2 == parity else 0
                for s, code in enumerate(codes)]
        return table(bytes([14, *np.diff([0, *kept]) % 256]), levels)[1]

    blocks, out = [], []
    for number, kernel in enumerate(kernels):
        shape = list(kernel["shape"])
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        rows, columns = (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (
            1, math.prod(shape))
        out.append(np.zeros((rows, columns), int))
        period = shape[-2] if len(shape) > 2 else None
        cut = math.ceil(rows / math.ceil(rows / 4608))
        blocks += [(number, out[-1][first : first + cut], period, first)
                   for first in range(0, rows, cut)]
    blocks.sort(key=lambda block: -len(block[1]))
    odd = {4: (0o5, 0o2), 8: (0o13, 0o4), 16: (0o23, 0o4), 32: (0o45, 0o10), 64: (0o103, 0o24),
           128: (0o235, 0o126), 256: (0o515, 0o362)}
    lanes, words = list(map(int, buffers["context_states"])), iter(map(int, buffers[
        "context_words"]))
    walks, known = {}, {}
    for t in range(len(blocks[0][1])):
        todo = [(i, c) for i, block in enumerate(blocks) if t < len(block[1])
                for c in range(block[1].shape[1])]
        for first in range(0, len(todo), len(lanes)):
            row = todo[first : first + len(lanes)]
            for lane, (i, column) in enumerate(row):
                number, matrix, p, above = blocks[i]
                if separable:
                    scale = product(matrix, t, column, p or above + len(matrix), above,
                                    mean[number] / 256, place, kernel_weight)
                else:
                    a = np.float64(np.abs(matrix[:t, column]).sum()) / max(t, 1) * min(t, most)
                    a, w = a + mean[number] / 256 * kernel_weight, min(t, most) + kernel_weight
                    if p and p <= t and place:
                        a += place * np.abs(matrix[t - p :: -p, column]).sum()
                        w += place * (t // p)
                    scale = a / w
                chosen = (int(np.float64(scale).view(np.int64)) >> 50) - 4068
                chosen = table_of_class[64 * group[number] + min(max(chosen, 0), 63)]
                parity = None
                z = walks.setdefault((i, column), 0)
                if states[number]:
                    big, small = odd[states[number]]
                    parity = ((z & small // 2).bit_count() - offset[number]) % 2
                if (chosen, parity) not in known:
                    known[chosen, parity] = shares_of(chosen, parity)
                shares = known[chosen, parity]
                slot = lanes[lane] % 2**14
                level = int(np.searchsorted(np.cumsum(shares), slot, side="right"))
                lanes[lane] = (lanes[lane] >> 14) * shares[level] + slot - sum(shares[:level])
                matrix[t, column] = v = level - reach
                if states[number]:
                    u = v + offset[number]
                    bit = (u >> 1 & 1) ^ (z & big // 2).bit_count() % 2
                    walks[i, column] = (2 * z + bit) % states[number]
            for lane in range(len(row)):
                if lanes[lane] < 2**16:
                    lanes[lane] = lanes[lane] << 16 | next(words)
    assert all(state == 2**16 for state in lanes) and next(words, None) is None
    return [matrix.ravel() + centre[number] for number, matrix in enumerate(out)]


def columns_of(kernel):
    shape = kernel["shape"]
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def symbols_of(lengths, columns, bits):
    """Take the next columns, each of so many symbols, from an iterator of bits."""
    if 255 in lengths:
        return [[list(lengths).index(255)] * count for count, _ in columns]
    codewords, code, before = {}, 0, 0
    for length, symbol in sorted((length, s) for s, length in enumerate(lengths) if length):
        code <<= length - before
        codewords[length, code], before, code = symbol, length, code + 1
    found = []
    for count, length in columns:
        column, word = [], (0, 0)
        for _ in range(length):
            word = (word[0] + 1, word[1] << 1 | next(bits))
            if word in codewords:
                column.append(codewords[word])
                word = (0, 0)
        assert len(column) == count and word == (0, 0)
        found.append(column)
    return found


def huffman(kernels, buffers):
    tables = zlib.decompress(bytes(buffers["huffman_tables"]))
    bits = iter(np.unpackbits(buffers["huffman_code"]).tolist())
    lengths = iter(buffers["huffman_states"].tolist())
    for kernel in kernels:
        rows, columns = columns_of(kernel)
        own, tables = tables[: kernel["k"]], tables[kernel["k"] :]
        found = symbols_of(own, [(rows, next(lengths)) for _ in range(columns)], bits)
        yield np.array(found).T.ravel()


def filled(kernel, absent, rows_of_columns, symbols_of_columns):
    matrix = np.full(columns_of(kernel), absent)
    for column, (rows, symbols) in enumerate(zip(rows_of_columns, symbols_of_columns,
                                                 strict=True)):
        matrix[rows, column] = symbols
    return matrix.ravel()


def sparse_huffman(kernels, buffers):
    buffers = {name.removeprefix("sparse_huffman_"): value for name, value in buffers.items()}
    stored = zlib.decompress(bytes(buffers["tables"]))
    absent, tables = np.frombuffer(stored, "<u2", len(kernels)), stored[2 * len(kernels) :]
    bits = iter(np.unpackbits(buffers["code"]).tolist())
    lengths, counts = (iter(buffers[name].tolist()) for name in ("states", "counts"))
    rows_bytes = bytes(buffers["rows"])
    for number, kernel in enumerate(kernels):
        rows, columns = columns_of(kernel)
        kind = np.dtype("u1" if rows <= 1 << 8 else "<u2")
        own, tables = tables[: kernel["k"]], tables[kernel["k"] :]
        count = [next(counts) for _ in range(columns)]
        places = []
        for size in count:
            places.append(np.frombuffer(rows_bytes, kind, size))
            rows_bytes = rows_bytes[size * kind.itemsize :]
        found = symbols_of(own, [(size, next(lengths)) for size in count], bits)
        yield filled(kernel, absent[number], places, found)


def sparse_index_map(kernels, buffers):
    absent = np.frombuffer(bytes(buffers["sparse_index_map_tables"]), "<u2")
    gaps = iter(buffers["sparse_index_map_gaps"].tolist())
    counts = iter(buffers["sparse_index_map_counts"].tolist())
    code = bytes(buffers["sparse_index_map"])
    for number, kernel in enumerate(kernels):
        places, found = [], []
        kind = np.dtype("u1" if kernel["k"] <= 256 else "<u2")
        for _ in range(columns_of(kernel)[1]):
            row, rows = -1, []
            for _ in range(next(counts)):
                gap = next(gaps)
                row += gap + (gap < 255)
                rows += [row] if gap < 255 else []
            places.append(rows)
            found.append(np.frombuffer(code, kind, len(rows)))
            code = code[len(rows) * kind.itemsize :]
        yield filled(kernel, absent[number], places, found)


@pytest.mark.parametrize("coder", ["raw", "index_map", "rans", "context", "huffman",
                                   "sparse_huffman", "sparse_index_map"])
def test_a_stranger_reads_every_weight(tmp_path, container, coder):
    write_container(tmp_path / "model.h5", container, coder=coder)
    weights = read_as_specified(tmp_path / "model.h5")
    expected = container.shared.weights()
    assert set(weights) == set(expected)
    for path, array in expected.items():
        assert weights[path].dtype == array.dtype, path
        np.testing.assert_array_equal(weights[path], array)


def test_a_stranger_follows_a_trellis_and_the_scales_of_channels(tmp_path, container):
    random = np.random.default_rng(0)
    kernels = {path: (random.laplace(size=shape) * np.exp(random.normal(size=shape[-1])), "conv")
               for path, shape in {"a/kernel": (3, 3, 8, 24), "b/kernel": (5, 5, 12, 1),
                                   "c/kernel": (4700, 2)}.items()}
    compression = Compression.parse("uTCQ", clustercnn=255)
    one = dataclasses.replace(container, shared=share_weights(kernels, compression),
                              compression="uTCQ")
    write_container(tmp_path / "model.h5", one)
    weights = read_as_specified(tmp_path / "model.h5")
    for path, array in one.shared.weights().items():
        np.testing.assert_array_equal(weights[path], array)


def test_a_stranger_follows_output_channels_places_and_input_channels(tmp_path, container):
    random = np.random.default_rng(0)
    kernels = {}
    for path, shape, tail in (("a/kernel", (3, 3, 16, 24), 0.1), ("b/kernel", (3, 3, 24, 16), 4),
                              ("c/kernel", (80, 10), 1), ("d/kernel", (3, 3, 520, 2), 0.1)):
        scale = np.exp(random.normal(size=shape[-1])) * np.exp(random.normal(size=shape[-2]))[
            :, None] * np.exp(random.normal(size=(*shape[:-2], 1, 1)))
        kernels[path] = np.sign(random.normal(size=shape)) * scale * random.exponential(
            size=shape) ** tail, "conv"
    compression = Compression.parse("uTCQ", clustercnn=255)
    one = dataclasses.replace(container, shared=share_weights(kernels, compression),
                              compression="uTCQ")
    with pytest.MonkeyPatch.context() as patch:
        # A larger file would choose it by itself.
        patch.setattr(context_coder, "_MIXTURES", ((context_coder.SEPARABLE, 15, 16),))
        write_container(tmp_path / "model.h5", one, coder="context")
    with h5py.File(tmp_path / "model.h5") as file:
        stored = file["kernels/context_tables"][()].tobytes()
    head = zlib.decompress(stored[4 : 4 + int.from_bytes(stored[:4], "little")])
    assert head[:2] == b"\xff\xff" and head[9] > 1
    weights = read_as_specified(tmp_path / "model.h5")
    for path, array in one.shared.weights().items():
        np.testing.assert_array_equal(weights[path], array)


def test_attributes_name_the_format(tmp_path, container):
    write_container(tmp_path / "model.h5", container)
    with h5py.File(tmp_path / "model.h5") as file:
        assert file.attrs["format"] == b"cxcompress"
        assert file.attrs["format_version"] == 3
        assert file.attrs["compression"] == b"uCWS"
        assert bytes(file["architecture"][()]).decode() == container.architecture
        assert json.loads(bytes(file["card"][()])) == container.card.to_dict()
        stored = bytes(file["graphs"][()])
    content = lzma.decompress(stored[8:])
    assert len(content) == int.from_bytes(stored[:8], "little")
    end = 4 + int.from_bytes(content[:4], "little")
    position = (end + 3) // 4 * 4
    assert container.graph
    for name, entry in json.loads(content[4:end]).items():
        flatbuffer = content[position:position + entry["bytes"]]
        assert flatbuffer == container.graph[name].flatbuffer
        assert entry["placement"] == container.graph[name].placement
        position = (position + entry["bytes"] + 3) // 4 * 4
    assert position == len(content)
