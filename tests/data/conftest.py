"""Small copies of published collections, in exactly their layouts, from NIH's own rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Rows of ChestX-ray14's sample_labels.csv and Data_Entry_2017.csv: image, findings, follow-up,
# patient, age, sex, view.
NIH_ROWS = [
    ("00000001_000.png", "Cardiomegaly", 0, 1, "58", "M", "PA"),
    ("00000001_001.png", "Cardiomegaly|Emphysema", 1, 1, "58", "M", "PA"),
    ("00000001_002.png", "Cardiomegaly|Effusion", 2, 1, "58", "M", "PA"),
    ("00000002_000.png", "No Finding", 0, 2, "81", "M", "PA"),
    ("00000003_000.png", "Hernia", 0, 3, "81", "F", "PA"),
    ("00000003_001.png", "Hernia", 1, 3, "74", "F", "PA"),
    ("00000003_003.png", "Hernia|Infiltration", 3, 3, "76", "F", "PA"),
    ("00000005_000.png", "No Finding", 0, 5, "69", "F", "PA"),
    ("00000013_005.png", "Emphysema|Infiltration|Pleural_Thickening|Pneumothorax", 5, 13, "060Y",
     "M", "AP"),
    ("00000013_026.png", "Cardiomegaly|Emphysema", 26, 13, "057Y", "M", "AP"),
    ("00000017_001.png", "No Finding", 1, 17, "077Y", "M", "AP"),
    ("00000030_001.png", "Atelectasis", 1, 30, "079Y", "M", "PA"),
    ("00000032_001.png", "Cardiomegaly|Edema|Effusion", 1, 32, "055Y", "F", "AP"),
    ("00000040_003.png", "Consolidation|Mass", 3, 40, "068Y", "M", "PA"),
    ("00000042_002.png", "No Finding", 2, 42, "071Y", "M", "AP"),
    ("00000057_001.png", "No Finding", 1, 57, "071Y", "M", "AP"),
    ("00000061_002.png", "Effusion", 2, 61, "077Y", "M", "PA"),
    ("00000061_019.png", "No Finding", 19, 61, "077Y", "M", "AP"),
    ("00000061_025.png", "Effusion", 25, 61, "077Y", "M", "AP"),
    ("00005567_000.png", "Effusion|Pneumonia", 0, 5567, "412", "M", "AP"),
]
HEADER_2017 = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age",
               "Patient Gender", "View Position", "OriginalImage[Width", "Height]",
               "OriginalImagePixelSpacing[x", "y]", "")
HEADER_SAMPLE = (*HEADER_2017[:7], "OriginalImageWidth", "OriginalImageHeight",
                 "OriginalImagePixelSpacing_x", "OriginalImagePixelSpacing_y")
TEST_LIST = ("00000003_000.png", "00000003_001.png", "00000003_003.png", "00000013_005.png",
             "00000013_026.png", "00000061_002.png", "00000061_019.png", "00000061_025.png")
BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
00013118_008.png,Atelectasis,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661,,,
00014716_007.png,Atelectasis,686.101694915254,131.543498411017,185.491525423729,313.491525423729,,,
00029817_009.png,Infiltrate,221.830508474576,317.053115068644,155.118644067797,216.949152542373,,,
00014687_001.png,Cardiomegaly,290.167741935484,357.86025928,497.548387096774,291.5053763440860,,,
"""
NIH_LT = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema",
          "Fibrosis", "Hernia", "Infiltration", "Mass", "Nodule", "Pleural Thickening",
          "Pneumonia", "Pneumothorax", "Pneumoperitoneum", "Pneumomediastinum",
          "Subcutaneous Emphysema", "Tortuous Aorta", "Calcification of the Aorta", "No Finding")
MIMIC_LT = ("Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema",
            "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Lung Opacity", "No Finding",
            "Pleural Effusion", "Pleural Other", "Pneumomediastinum", "Pneumonia",
            "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema", "Support Devices",
            "Tortuous Aorta")
CHEXPERT = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
            "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
            "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")


def write_table(path: Path, header, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_picture(path: Path, number: int = 0, side: int = 20, bits: int = 8) -> None:
    """A noisy grey picture, another for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    white = 2**bits - 1
    values = np.random.default_rng(number).integers(0, white, (side, side), endpoint=True)
    Image.fromarray(values.astype(np.uint8 if bits == 8 else np.uint16)).save(path)


def write_nih(root: Path, table: str = "Data_Entry_2017.csv", lists: bool = True) -> Path:
    header = HEADER_SAMPLE if table == "sample_labels.csv" else HEADER_2017
    if table.endswith("v2020.csv"):
        header = tuple("Patient Sex" if name == "Patient Gender" else name for name in header)
    write_table(root / table, header, [
        (*row, *("2682", "2749", "0.143", "0.143", "")[:len(header) - 7]) for row in NIH_ROWS])
    for number, row in enumerate(NIH_ROWS):
        folder = "sample/images" if table == "sample_labels.csv" else (
            f"images_{1 + number // 8:03d}/images")
        write_picture(root / folder / row[0], number)
    if lists:
        (root / "test_list.txt").write_text("\n".join(TEST_LIST) + "\n")
        (root / "train_val_list.txt").write_text("\n".join(
            row[0] for row in NIH_ROWS if row[0] not in TEST_LIST))
        (root / "BBox_List_2017.csv").write_text(BOXES)
    return root


def write_nih_lt(root: Path) -> Path:
    parts = {"train": NIH_ROWS[:8], "val": NIH_ROWS[8:12], "test": NIH_ROWS[12:]}
    for part, rows in parts.items():
        cells = []
        for row in rows:
            found = row[1].replace("_", " ").split("|")
            cells.append((row[0], *(int(name in found) for name in NIH_LT), row[3]))
            write_picture(root / "images" / row[0], row[3])
        write_table(root / "labels" / f"miccai2023_nih-cxr-lt_labels_{part}.csv",
                    ("id", *NIH_LT, "subj_id"), cells)
    return root


def write_mimic_lt(root: Path) -> Path:
    for number, part in enumerate(("train", "val", "test")):
        cells = []
        for patient in range(2):
            subject = 10000032 + 100 * number + patient
            path = (f"files/p{str(subject)[:2]}/p{subject}/s5041426{patient}/"
                    f"02aa804e-bde0afdd-112c0b34-7bc16630-4e38401{number}.jpg")
            write_picture(root / path, subject)
            cells.append((path, *((column + patient) % 3 == 0 and 1 or 0
                                  for column in range(len(MIMIC_LT)))))
        write_table(root / f"miccai2023_mimic-cxr-lt_labels_{part}.csv", ("path", *MIMIC_LT),
                    cells)
    return root


def write_chexpert(root: Path, tables=("train", "valid")) -> Path:
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
    for part in tables:
        rows = []
        first = {"train": 1, "valid": 64541, "test": 64741}[part]
        for patient in range(first, first + 3):
            for view, kind in ((1, "frontal"), (2, "lateral")):
                inside = f"{part}/patient{patient:05d}/study1/view{view}_{kind}.jpg"
                write_picture(root / inside, 2 * patient + view)
                rows.append((f"CheXpert-v1.0-small/{inside}", "Female", 68 - patient % 7,
                             kind.title(), "AP" if view == 1 else "", "1.0", "", "-1.0", "0.0",
                             *[""] * 9, "1.0"))
        write_table(root / f"{part}.csv", header, rows)
    return root


def write_padchest(root: Path) -> Path:
    header = ("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID",
              "PatientBirth", "PatientSex_DICOM", "ViewPosition_DICOM", "Projection",
              "MethodProjection", "Pediatric", "ReportID", "Report", "MethodLabel", "Labels")
    labels = ("['pneumonia', 'cardiomegaly']", "['normal']", "['pleural effusion']",
              "['cardiomegaly', 'aortic elongation']")
    rows = []
    for patient in range(12):
        name = (f"2168408401986907259045136611180431608{patient:02d}_"
                f"vf{patient}4b-1.png")
        write_picture(root / str(patient % 3) / name, patient, bits=16)
        rows.append((patient, name, patient % 3, 20140915, 20536686640136348236148679891455886468,
                     f"8486{patient:04d}", 1930.0 + patient, "MF"[patient % 2], "POSTEROANTERIOR",
                     "PA", "Manual review of DICOM fields", "No", 4765777, "sin hallazgos",
                     "Physician", labels[patient % 4]))
    write_table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows)
    return root


def write_medimaging(root: Path) -> Path:
    for number, row in enumerate(NIH_ROWS):
        folder = "dataset_full" if number < 14 else "dataset_cardiomegaly/train"
        write_picture(root / folder / row[0], number)
    write_table(root / "dataset_full" / "14_train.csv", ("imageID", "disease"),
                [(row[0], row[1]) for row in NIH_ROWS[:14]])
    single = [(row[0], "Cardiomegaly" if "Cardiomegaly" in row[1] else "No Finding")
              for row in NIH_ROWS]
    write_table(root / "dataset_cardiomegaly" / "train.csv", ("imageID", "disease"), single[10:17])
    write_table(root / "dataset_cardiomegaly" / "test.csv", ("imageID", "disease"), single[17:])
    return root


LAYOUTS = {"nih": write_nih, "nih_lt": write_nih_lt, "mimic_lt": write_mimic_lt,
           "chexpert": write_chexpert, "padchest": write_padchest,
           "medimaging": write_medimaging,
           "nih_sample": lambda root: write_nih(root, "sample_labels.csv", lists=False),
           "nih_2020": lambda root: write_nih(root, "Data_Entry_2017_v2020.csv")}


@pytest.fixture
def layout(tmp_path):
    """`layout("nih")`: writes a copy in that layout and gives its folder; each once a test."""
    def write(name: str, **more) -> Path:
        return LAYOUTS[name](tmp_path / name, **more)
    return write


@pytest.fixture(scope="session")
def nih_rows():
    """The rows that the NIH copies are made of."""
    return NIH_ROWS


@pytest.fixture(scope="session")
def picture():
    """Writes a small noisy picture."""
    return write_picture


@pytest.fixture(scope="session")
def table():
    """Writes a CSV from a header and rows."""
    return write_table
