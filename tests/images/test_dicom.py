"""DICOM radiographs: rescale, window, inversion, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.errors import InputError

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

from cxcompress.images.dicom import read_dicom  # noqa: E402

PIXELS = np.linspace(0, 4000, 24).astype(np.uint16).reshape(4, 6)


def dicom(path, pixels=PIXELS, kind="MONOCHROME2", **fields):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.PhotometricInterpretation = kind
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_without_a_window_the_whole_range_is_used(tmp_path):
    image = read_dicom(dicom(tmp_path / "a.dcm"))
    assert image.dtype == np.uint16 and image.shape == (4, 6)
    assert (image.min(), image.max()) == (0, 65535)
    np.testing.assert_allclose(image, PIXELS / 4000 * 65535, atol=0.5)


def test_monochrome1_is_inverted(tmp_path):
    plain, inverted = (read_dicom(dicom(tmp_path / f"{kind}.dcm", kind=kind))
                       for kind in ("MONOCHROME2", "MONOCHROME1"))
    np.testing.assert_allclose(inverted, 65535 - plain.astype(float), atol=1)


def test_window_applies_after_rescaling(tmp_path):
    """Window of 1000 to 3000 in rescaled values: 2 x stored - 1000."""
    image = read_dicom(dicom(
        tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-1000,
        WindowCenter=2000.5, WindowWidth=2001))
    rescaled = 2.0 * PIXELS - 1000
    np.testing.assert_allclose(image, np.clip((rescaled - 1000) / 2000, 0, 1) * 65535, atol=0.5)


def test_the_first_of_several_windows(tmp_path):
    one = read_dicom(dicom(tmp_path / "1.dcm", WindowCenter=1000, WindowWidth=500))
    many = read_dicom(dicom(tmp_path / "2.dcm", WindowCenter=[1000, 9], WindowWidth=[500, 9]))
    np.testing.assert_array_equal(one, many)


def test_colour_stays_colour(tmp_path):
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(
        read_dicom(dicom(tmp_path / "c.dcm", pixels, "RGB")), pixels)


def test_what_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.dcm").write_text("no image at all")
    with pytest.raises(InputError, match="not a DICOM file"):
        read_dicom(tmp_path / "text.dcm")
    with pytest.raises(InputError, match="no such file"):
        read_dicom(tmp_path / "missing.dcm")
    with pytest.raises(InputError, match="2 frames"):
        read_dicom(dicom(tmp_path / "film.dcm", NumberOfFrames=2))
    with pytest.raises(InputError, match="million pixels"):
        read_dicom(dicom(tmp_path / "huge.dcm", Rows=20000, Columns=20000))
    with pytest.raises(InputError, match="cannot be decoded"):
        read_dicom(dicom(tmp_path / "short.dcm", Rows=400))
    with pytest.raises(InputError, match="kind YBR_FULL"):
        read_dicom(dicom(tmp_path / "ybr.dcm", np.zeros((4, 6, 3), np.uint8), "YBR_FULL"))


@pytest.mark.parametrize("change", [
    lambda d: delattr(d, "Rows"), lambda d: setattr(d, "Columns", 0),
    lambda d: setattr(d, "SamplesPerPixel", 3), lambda d: setattr(d, "RescaleIntercept", "inf"),
    lambda d: setattr(d, "NumberOfFrames", "99"), lambda d: setattr(d, "BitsAllocated", 12),
    lambda d: setattr(d, "PixelData", b"1"),
])
def test_fields_that_cannot_be_used_are_one_line(tmp_path, change):
    """Found by fuzzing: pydicom parses fields when they are asked for, and raises anything."""
    path = dicom(tmp_path / "a.dcm")
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=False)
    with pytest.raises(InputError, match="a.dcm") as caught:
        read_dicom(path)
    assert "\n" not in str(caught.value)
