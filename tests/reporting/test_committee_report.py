"""The committee's page says what the runs measured, and nothing of a file runs in it."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest

from cxcompress.commands import report
from cxcompress.commands.compress import main as compress
from cxcompress.runs import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of `compress.py` on a small network with labelled images."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("committee")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((16, 16, 1)), layers.Conv2D(8, 3, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(3, activation="sigmoid")])
    model.save(folder / "net.h5")
    random = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=random.integers(0, 256, (240, 16, 16), np.uint8),
             labels=random.integers(0, 2, (240, 3)), split=np.repeat(["train", "val", "test"], 80),
             classes=np.array(["mass", "nodule", "<b>hernia</b>"]))
    assert compress(["--compression", "uUQ", "--clustercnn", "8", "--clusterfc", "8",
                     "--epochs", "0", "--net", str(folder / "net.h5"),
                     "--data_path", str(folder / "data.npz"), "--preprocessing", "0-1",
                     "--plans", "float32", "--output_path", str(folder / "runs")]) == 0
    (run,) = (folder / "runs" / "uUQ").iterdir()
    return run


def test_a_compression_run_becomes_one_page(finished, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert report.main([str(finished), "--output", str(page)]) == 0
    text = page.read_text()
    results = json.loads((finished / "results.json").read_text())
    assert html.escape(results["comparison"]["headline"]) in text
    assert "Who is hurt" in text and "Decisions that changed" in text
    for name, estimate in results["after"].items():
        if name in {change["metric"] for change in results["comparison"]["changes"]} and (
                estimate["value"] is not None):
            assert f"{estimate['value']:.3f} (" in text, name
    assert "compress.py --compression uUQ --clustercnn 8" in text  # repeats it exactly
    assert "<b>hernia" not in text and "&lt;b&gt;hernia" in text
    assert "http" not in text.replace("http://www.w3.org", "")  # loads nothing from elsewhere
    assert text.count("not a medical device") == 1
    assert text.count("<img") >= 3
    assert report.main([str(finished), "--output", str(page)]) == 2
    assert "exists; give --overwrite" in capsys.readouterr().err


def test_other_runs_add_their_tables_and_pages_but_no_scripts(finished, tmp_path):
    with RunFolder.open(tmp_path / "exemplars" / "net", {"level": 0.9}) as other:
        other.write_csv("table.csv", [{"class": "hernia", "ratio": 1.234567}] * 50)
        (other.path / "gallery.html").write_text("<script>alert(1)</script><p>a page</p>")
        other.write_json("results.json", {"notes": ["a note"]})
    page = tmp_path / "page.html"
    assert report.main([str(tmp_path / "exemplars" / "net"), str(finished),
                        "--output", str(page)]) == 0
    text = page.read_text()
    assert text.index("uUQ of net.h5") < text.index("exemplars: net")
    assert "the first 40 of 50 rows" in text and "1.235" in text and "a note" in text
    assert "<script>" not in text and "iframe sandbox loading" in text


def test_folders_without_a_finished_run_are_refused(tmp_path, capsys):
    assert report.main([str(tmp_path), "--output", str(tmp_path / "x.html")]) == 2
    assert "holds no run of cxcompress" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        with RunFolder.open(tmp_path / "run", {}):
            raise KeyboardInterrupt
    assert report.main([str(tmp_path / "run"), "--output", str(tmp_path / "x.html")]) == 2
    assert "an unfinished run; repeat its command" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
