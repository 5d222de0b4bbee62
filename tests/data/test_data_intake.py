"""Rows, pictures and patients that do not match: counted, listed, and refused with `strict`."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.errors import InputError


def spoil(root, layout, picture):
    """A copy of NIH with one fault of each kind but a leak."""
    table = root / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    lines.append(lines[3])                                      # the same row again
    lines.append(lines[1].replace("00000001_000", "00009999_000"))      # no picture
    lines[4] = lines[4].replace("No Finding", "Hyperinflation")
    table.write_text("\n".join(lines) + "\n")
    picture(root / "images_001" / "images" / "00031000_000.png")        # no row
    whole = root / "images_001" / "images" / "00000005_000.png"
    whole.write_bytes(whole.read_bytes()[:-40])


def test_each_fault_is_counted_and_named(layout, picture):
    root = layout("nih")
    spoil(root, layout, picture)
    collection = open_collection(root)
    faults = collection.intake.faults()
    assert faults["rows without an image"] == ["00009999_000.png"]
    assert faults["images without a row"] == ["images_001/images/00031000_000.png"]
    assert faults["image names in several rows"] == ["00000001_002.png"]
    assert faults["unknown labels"] == ["Hyperinflation (1 rows)"]
    assert "00000005_000.png" in faults["unreadable images"][0]
    assert (collection.intake.rows, collection.intake.used) == (22, 19)
    held = np.concatenate([part.image_id for part in collection.parts.values()])
    assert len(held) == 19 and "00000005_000.png" not in held
    lines = "\n".join(collection.intake.lines())
    assert "1 unreadable images: skipped" in lines and "19 images used of 22 rows" in lines
    with pytest.raises(InputError, match="--strict") as error:
        open_collection(root, strict=True)
    assert "\n" not in str(error.value) and "1 rows without an image" in str(error.value)


def test_headers_find_truncated_pictures_and_pixels_find_flipped_bits(layout):
    root = layout("chexpert")
    cut = root / "train" / "patient00001" / "study1" / "view1_frontal.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    assert len(open_collection(root, check="headers").train) == 2
    nih = layout("nih")
    name = nih / "images_001" / "images" / "00000001_000.png"
    content = bytearray(name.read_bytes())
    content[len(content) // 2] ^= 0xFF
    name.write_bytes(content)
    assert not open_collection(nih, check="headers").intake.unreadable
    assert len(open_collection(nih).intake.unreadable) == 1


def test_dicom_pictures_count_and_broken_ones_are_skipped(tmp_path, table):
    dicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(name, photometric="MONOCHROME2", bits=16, cut=0):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.Rows, data.Columns, data.SamplesPerPixel = 8, 8, 1
        data.PhotometricInterpretation, data.PixelRepresentation = photometric, 0
        data.BitsAllocated = data.BitsStored = bits
        data.HighBit = bits - 1
        pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 100
        data.PixelData = pixels.tobytes()[:len(pixels.tobytes()) - cut]
        dicom.dcmwrite(tmp_path / name, data, enforce_file_format=True)

    write("a.dcm")
    write("b.dcm", "MONOCHROME1")
    write("c.dcm", "PALETTE COLOR")
    write("d.dcm", bits=12)
    write("e.dcm", cut=60)
    (tmp_path / "f.dcm").write_bytes(b"not a DICOM file")
    table(tmp_path / "t.csv", ("image", "labels", "split"),
          [(f"{letter}.dcm", "Mass", "train") for letter in "abcdef"])
    (tmp_path / "columns.json").write_text(
        '{"image": "image", "labels": "labels", "split": "split"}')
    collection = open_collection(tmp_path)
    assert collection.train.image_id.tolist() == ["a.dcm", "b.dcm"]
    bright, inverted = collection.train.images[0], collection.train.images[1]
    np.testing.assert_array_equal(bright, 65535 - inverted)
    assert len(collection.intake.unreadable) == 4


def test_two_rows_that_disagree_are_refused(layout):
    table = layout("nih") / "Data_Entry_2017.csv"
    line = table.read_text().splitlines()[1]
    with table.open("a") as file:
        file.write(line.replace("Cardiomegaly", "Mass") + "\n")
    with pytest.raises(InputError, match=r"two rows for 00000001_000\.png with different labels"):
        open_collection(table.parent)


def test_a_patient_of_two_parts_stays_in_the_later_one(layout):
    root = layout("nih_lt")
    tables = [root / "labels" / f"miccai2023_nih-cxr-lt_labels_{part}.csv"
              for part in ("train", "val")]
    moved = tables[0].read_text().splitlines()[1:3]            # two of patient 1's three images
    tables[1].write_text(tables[1].read_text() + "\n".join(moved) + "\n")
    tables[0].write_text("\n".join(line for line in tables[0].read_text().splitlines()
                                   if line not in moved) + "\n")
    collection = open_collection(root)
    assert collection.intake.leaking == ("00000001",)
    assert "00000001" not in collection.train.patient_id
    assert (collection.val.patient_id == "00000001").sum() == 2 and len(collection.train) == 5
    with pytest.raises(InputError, match="patients are in two parts"):
        open_collection(root, strict=True)


@pytest.mark.parametrize(("name", "table", "broken"), [
    ("nih", "Data_Entry_2017.csv", "a,b\n1,2\n"), ("nih", "Data_Entry_2017.csv", ""),
    ("chexpert", "train.csv", "Path,b\n1,2\n"), ("chexpert", "train.csv", ""),
    ("nih_lt", "labels/miccai2023_nih-cxr-lt_labels_val.csv", "id,b\n1,2\n"),
    ("mimic_lt", "miccai2023_mimic-cxr-lt_labels_val.csv", "path,Edema\nx.jpg,1\n"),
    ("medimaging", "dataset_full/14_train.csv", "a,b\n1,2\n"),
    ("padchest", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
     "ImageID,PatientID,Labels,Projection,PatientSex_DICOM,PatientBirth,StudyDate_DICOM\n"
     "a,b,['x',PA,M,1,2\n"),
])
def test_tables_that_are_none_are_named(layout, name, table, broken):
    root = layout(name)
    (root / table).write_text(broken)
    with pytest.raises(InputError) as error:
        open_collection(root)
    assert (root / table).name in str(error.value) or "names no patient" in str(error.value)


def test_a_label_that_is_no_number_is_named(layout):
    table = layout("chexpert") / "train.csv"
    table.write_text(table.read_text().replace("-1.0", "maybe"))
    with pytest.raises(InputError, match="Cardiomegaly is 'maybe'"):
        open_collection(table.parent)
