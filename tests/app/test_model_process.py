"""Foreign files are parsed in a child: what breaks it is one line, and the next question works."""

from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image

from cxcompress.app import model_process
from cxcompress.app.answers import cell_facts, export_row, finding_rows, to_csv, to_json
from cxcompress.app.model_process import ModelProcess
from cxcompress.errors import InputError
from cxcompress.evaluation.cut_offs import CutOffs
from cxcompress.runtime import load

CLASSIFIER = "small_cxr_synthetic-uCWS-256"
NUCLEI = "pathonet_synthetic_ki67-TCQ-25dB"


@pytest.fixture(scope="module")
def classifier(bundled):
    model = ModelProcess(bundled(CLASSIFIER).read_bytes(), CLASSIFIER)
    yield model
    model.close()


def test_it_answers_as_the_runtime_does(classifier, bundled, png, tmp_path):
    picture = png()
    answer = classifier.answer("a.png", picture, map_column=2)
    (tmp_path / "a.png").write_bytes(picture)
    expected = load(bundled(CLASSIFIER)).predict_images([tmp_path / "a.png"])
    np.testing.assert_array_equal(answer.findings["scores"], expected.scores[0])
    np.testing.assert_array_equal(answer.findings["decisions"], expected.decisions[0])
    np.testing.assert_array_equal(answer.pixels, np.asarray(Image.open(io.BytesIO(picture))))
    assert answer.map_kind == "activation" and answer.map.ndim == 2
    assert 10e6 < classifier.about["memory_bytes"] < 1e9
    rows = finding_rows(answer, classifier.about["card"])
    assert [row["probability"] for row in rows] == sorted(answer.findings["scores"])[::-1]
    assert all(row["present"] == (row["probability"] >= row["threshold"]) for row in rows)
    row = export_row("a.png", answer, classifier.about["card"], CutOffs.known()["ikwg"])
    assert to_csv([row]).decode().splitlines()[0].startswith("image,Atelectasis")
    assert b"not a medical device" in to_json([row], classifier.about)


def test_what_cannot_be_read_is_one_line_that_names_the_upload(classifier, png):
    for content in (b"no picture", png()[:200], b"\0" * 128 + b"DICM" + b"\xff" * 50):
        with pytest.raises(InputError, match="^bad") as caught:
            classifier.answer("bad.dcm", content)
        assert "/proc" not in str(caught.value) and "\n" not in str(caught.value)
    assert classifier.answer("good.png", png()).seconds > 0


def test_a_crash_is_one_line_and_the_next_question_starts_anew(classifier, png):
    before = classifier.answer("a.png", png()).findings["scores"]
    os.kill(classifier._child.pid, signal.SIGSEGV)
    classifier._child.wait()
    with pytest.raises(InputError, match="a.png: broke the process that read it"):
        classifier.answer("a.png", png())
    np.testing.assert_array_equal(classifier.answer("a.png", png()).findings["scores"], before)


def test_a_hang_is_ended(classifier, png, monkeypatch):
    classifier.answer("a.png", png())
    os.kill(classifier._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(model_process, "ANSWER_SECONDS", 1)
    with pytest.raises(InputError, match="a.png: took more than 1 s"):
        classifier.answer("a.png", png())
    monkeypatch.undo()
    assert classifier.answer("a.png", png()).seconds > 0


def test_containers_that_are_none_are_refused_and_leave_no_process(bundled):
    altered = bytearray(bundled(CLASSIFIER).read_bytes())
    altered[-100] ^= 1
    for content, said in ((b"PK\3\4", "not a cxcompress container"), (b"", "an empty file"),
                          (bytes(altered), "altered container")):
        with pytest.raises(InputError, match=f"mine.h5: .*{said}"):
            ModelProcess(content, "mine.h5")


def test_dicom_names_of_patients_go_nowhere(classifier):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.PatientID = "Mustermann^Erika", "4711"
    file.Rows = file.Columns = 32
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 15, 0, 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = np.arange(1024, dtype=np.uint16).tobytes()
    whole = io.BytesIO()
    pydicom.dcmwrite(whole, file)
    answer = classifier.answer("x.dcm", whole.getvalue())
    shown = repr(vars(answer)) + repr(classifier.about)
    assert "Mustermann" not in shown and "4711" not in shown
    del file.PixelData
    broken = io.BytesIO()
    pydicom.dcmwrite(broken, file)
    with pytest.raises(InputError, match="x.dcm: a DICOM file without an image") as caught:
        classifier.answer("x.dcm", broken.getvalue())
    assert "Mustermann" not in str(caught.value)


def test_nuclei_are_counted_and_the_index_has_a_band(bundled):
    from cxcompress.app.examples import picture

    model = ModelProcess(bundled(NUCLEI).read_bytes(), NUCLEI)
    field = picture("generated Ki-67 field 2")
    answer = model.answer(field.name, field.content)
    facts = cell_facts(answer, model.about["card"], CutOffs.known()["ikwg"])
    cells = answer.findings["cells"]
    assert len(cells) > 5 and sum(facts["counts"].values()) == len(cells)
    positive, negative, _ = facts["counts"].values()
    assert facts["ki67_index"] == positive / (positive + negative)
    assert facts["ki67_band"] in CutOffs.known()["ikwg"].labels("ki67_index")
    assert facts["too_few_nuclei"] is True
    assert np.all(cells[:, :2] < 256)
    model.close()


def test_spreadsheets_do_not_take_names_for_formulas():
    text = to_csv([{"image": "=cmd()|a.png", "mass": -0.5, "n": "@x"}]).decode()
    assert text.splitlines()[1] == "'=cmd()|a.png,-0.5,'@x"


def test_a_probability_comes_with_what_was_true_of_such_images():
    from cxcompress.app.answers import calibration_text

    bins = [{"predicted": 0.1, "observed": 0.05, "low": 0.01, "high": 0.2, "count": 40},
            {"predicted": 0.7, "observed": 0.6, "low": 0.4, "high": 0.8, "count": 41}]
    assert calibration_text(bins, 0.5) == (
        "60% (40% to 80%), n = 41 near 0.70")
    assert calibration_text((), 0.5) == "" == calibration_text([{"odd": 1}], 0.5)
