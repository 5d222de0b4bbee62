"""Sheets, key and answers of a reader study."""

from __future__ import annotations

import csv
import io
import json

import pytest

from cxcompress.errors import InputError
from cxcompress.search.reader_study_files import (
    QUESTIONS,
    VIA_COLUMNS,
    read_answers,
    via_attributes,
    via_sheet,
)

NAMES = ("001.png", "002.png")
SAME = {name: name for name in QUESTIONS}


def sheet(path, answers):
    """A sheet with the given `file_attributes`, one a file."""
    rows = [{"filename": name, "file_attributes": text if isinstance(text, str)
             else json.dumps(text)} for name, text in answers]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ("filename", "file_attributes"))
        writer.writeheader()
        writer.writerows(rows)
    return path


def key(path, rows=(("001.png", "exemplar"), ("002.png", "control"))):
    path.write_text("filename,group\n" + "".join(f"{name},{group}\n" for name, group in rows))
    return path


def full(agreement="yes", quality="3", difficulty="2"):
    return {"agreement": agreement, "quality": quality, "difficulty": difficulty}


def test_sheets_have_vias_columns_and_the_given_order():
    text = via_sheet(NAMES[::-1], dict.fromkeys(NAMES, 99), {"001.png": "Mass", "002.png": "none"})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == VIA_COLUMNS and [row["filename"] for row in rows] == [*NAMES[::-1]]
    assert json.loads(rows[1]["file_attributes"]) == {"labels": "Mass"} | dict.fromkeys(
        QUESTIONS, "")
    options = json.loads(via_attributes())["file"]
    assert options["quality"]["type"] == "radio" and set(options["agreement"]["options"]) == {
        "yes", "no"}


def test_answers_come_as_via_writes_them(tmp_path):
    first = sheet(tmp_path / "anna.csv", [
        ("002.png", full("No", 5, "1")), ("001.png", full({"yes": True}, "4", 2))])
    second = sheet(tmp_path / "ben.csv", [("001.png", full(True, "", "5")),
                                          ("002.png", full("0", "2", ""))])
    found = read_answers([first, second], key(tmp_path / "key.csv"), SAME)
    assert found.raters == ("anna", "ben") and found.images == NAMES
    agreement = found.ratings["agreement"]
    by = dict(zip(zip(agreement.image.tolist(), agreement.rater.tolist(), strict=True),
                  agreement.value.tolist(), strict=True))
    assert by == {(0, 0): 1, (0, 1): 1, (1, 0): 0, (1, 1): 0}
    assert agreement.exemplar.tolist() == (agreement.image == 0).tolist()
    assert found.missing == {"agreement": 0, "quality": 1, "difficulty": 1}


@pytest.mark.parametrize("answers, said", [
    ([("003.png", full())], "line 2: 003.png is not in"),
    ([("001.png", full()), ("001.png", full())], "line 3: 001.png comes twice"),
    ([("001.png", full(quality="6"))], "quality is '6'; it must be 1 to 5"),
    ([("001.png", full(quality="good"))], "quality is 'good'"),
    ([("001.png", full(agreement="perhaps"))], "must be yes or no"),
    ([("001.png", full(agreement={"yes": True, "no": True}))], "must be yes or no"),
    ([("001.png", "{broken")], "not a JSON object"),
    ([("001.png", "[]")], "not a JSON object"),
    ([("001.png", full())], "0 about controls"),
    ([], "holds no row")])
def test_bad_answers_are_named_with_file_and_line(tmp_path, answers, said):
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        read_answers([sheet(tmp_path / "anna.csv", answers)], key(tmp_path / "key.csv"), SAME)


def test_bad_keys_and_columns_are_named(tmp_path):
    answers = sheet(tmp_path / "anna.csv", [("001.png", full())])
    for rows, said in (((("001.png", "case"),), "must be exemplar or control"),
                       ((("001.png", "exemplar"),), "one group"),
                       ((("001.png", "exemplar"),) * 2, "twice")):
        with pytest.raises(InputError, match=said):
            read_answers([answers], key(tmp_path / "key.csv", rows), SAME)
    with pytest.raises(InputError, match="no such file"):
        read_answers([answers], tmp_path / "none.csv", SAME)
    with pytest.raises(InputError, match="two sheets are called anna"):
        read_answers([answers, answers], key(tmp_path / "key.csv"), SAME)
    (tmp_path / "bad.csv").write_text("filename\n001.png\n")
    with pytest.raises(InputError, match="no column file_attributes"):
        read_answers([tmp_path / "bad.csv"], key(tmp_path / "key.csv"), SAME)
