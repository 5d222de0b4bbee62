"""Reading gives upright grey or RGB arrays of 8 or 16 bits, or one clear line."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cxcompress.errors import InputError
from cxcompress.images import read_image
from cxcompress.images.reading import image_shape

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8)


def saved(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


@settings(max_examples=30)
@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16]),
                     st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_grey_png_comes_back_exactly(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    result = read_image(file)
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, image)


def test_colour_png_comes_back_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(image), tmp_path / "a.png")),
                                  image)


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "tif"])
def test_other_formats(tmp_path, suffix):
    path = saved(Image.fromarray(RAMP), tmp_path / f"a.{suffix}")
    assert read_image(path).shape == (6, 8)
    assert np.abs(read_image(path).astype(int) - RAMP).max() <= 3
    assert image_shape(path) == (6, 8, "L")


def test_sixteen_bit_tiff_keeps_its_bits(tmp_path):
    image = np.array([[0, 1, 4095, 65535]], np.uint16)
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(image), tmp_path / "a.tif")),
                                  image)


def test_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    expected = [[[255, 0, 0], [0, 0, 255]]]
    np.testing.assert_array_equal(read_image(saved(image, tmp_path / "a.png")), expected)


def test_bilevel_becomes_black_and_white(tmp_path):
    image = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(read_image(saved(image, tmp_path / "a.png")), [[255, 0]])


def test_transparent_radiograph_is_black_and_slide_white(tmp_path):
    grey = Image.fromarray(np.array([[[200, 0], [200, 255]]], np.uint8), "LA")
    np.testing.assert_array_equal(read_image(saved(grey, tmp_path / "grey.png")), [[0, 200]])
    same = np.full((1, 2, 4), 90, np.uint8)
    same[..., 3] = (0, 255)
    same_path = saved(Image.fromarray(same), tmp_path / "same.png")
    np.testing.assert_array_equal(read_image(same_path), [[0, 90]])
    colour = np.array([[[200, 10, 10, 0], [200, 10, 10, 255]]], np.uint8)
    colour_path = saved(Image.fromarray(colour), tmp_path / "colour.png")
    np.testing.assert_array_equal(read_image(colour_path), [[[255, 255, 255], [200, 10, 10]]])


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6          # camera turned: shown rotated by 90 degrees clockwise
    path = saved(Image.fromarray(RAMP), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(RAMP, -1))


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    path = saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), tmp_path / "a.jpg")
    assert read_image(path).shape == (4, 4, 3)
    assert read_image(path).min() > 250


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_what_is_not_an_image_is_refused(tmp_path):
    text = tmp_path / "a.png"
    text.write_text("hello")
    refused(text, "not an image")
    refused(tmp_path / "missing.png", "no such file")
    refused(tmp_path, "folder")
    gif = saved(Image.fromarray(RAMP), tmp_path / "a.gif")
    refused(gif, "PNG, JPEG, BMP or TIFF")
    refused(saved(Image.fromarray(RAMP.astype(np.float32)), tmp_path / "f.tif"), "floating point")


def test_damage_is_named(tmp_path):
    path = saved(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)),
                 tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:1500])
    refused(path, "damaged")


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0xFFFFFFFF, 0x10000000])
@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"zTXt", b"IDAT", b"eXIf"])
def test_a_png_chunk_of_gigabytes_is_one_line_or_ignored(tmp_path, kind, length):
    content = saved(Image.fromarray(RAMP), tmp_path / "a.png").read_bytes()
    chunk = length.to_bytes(4, "big") + kind + b"a\0" + bytes(20)
    path = tmp_path / "b.png"
    path.write_bytes(content[:33] + chunk + content[33:])  # behind IHDR
    try:
        read_image(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_picture_of_two_gigapixels_is_refused_before_it_is_decoded(tmp_path):
    for side, name in ((11_000, "large.png"), (46_000, "huge.png")):
        header = (side.to_bytes(4, "big") * 2) + bytes([8, 0, 0, 0, 0])
        chunks = b"".join(len(data).to_bytes(4, "big") + kind + data
                          + zlib.crc32(kind + data).to_bytes(4, "big")
                          for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")),
                                             (b"IEND", b"")))
        path = tmp_path / name
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
        refused(path, "100 million pixels")


def test_real_files(shared_data):
    assert read_image(shared_data / "ihc_lung.png").shape == (512, 512, 3)
    radiograph = next((shared_data / "covid_cxr_200px" / "test" / "normal").glob("*.png"))
    assert read_image(radiograph).dtype == np.uint8
