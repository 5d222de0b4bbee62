"""`localisation.py`: tables, differences, gallery; and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxcompress.commands.localisation import main

PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"
NETS = [str(PRETRAINED / f"small_cxr_synthetic{end}.h5") for end in ("", "-uCWS-256")]


def test_full_and_compressed_look_at_the_same_places(tmp_path, capsys):
    arguments = ["--net", *NETS, "--names", "full", "small", "--count", "400", "--data_seed", "5",
                 "--size", "64", "--output_path", str(tmp_path)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "minus full, paired" in text and "generated images" in text
    folder = tmp_path / "localisation" / "full"
    results = json.loads((folder / "results.json").read_text())
    rows = {(row["model"], row["finding"], row["metric"]): row for row in results["rows"]}
    for name in ("full", "small"):
        assert rows[name, "all", "pointing_game"]["low"] > rows[name, "all", "chance"]["high"]
    assert rows["small", "all", "agreement"]["value"] > 0.9
    assert ("full", "all", "agreement") not in rows
    of_all = rows["full", "all", "energy"]
    assert of_all["n"] == results["findings"] and of_all["low"] < of_all["value"] < of_all["high"]
    classes = [row for (name, finding, metric), row in rows.items()
               if (name, metric) == ("full", "energy") and finding != "all"]
    mean = np.average([row["value"] for row in classes], weights=[row["n"] for row in classes])
    assert mean == pytest.approx(of_all["value"])
    for name in ("gallery.png", "gallery.svg", "localisation.png", "localisation.csv",
                 "differences.csv"):
        assert (folder / name).stat().st_size > 0
    assert main(arguments) == 2
    assert "finished run" in capsys.readouterr().err


@pytest.mark.parametrize("changed, message", [
    (["--net", "nowhere.h5"], "no such file"),
    (["--names", "one", "one"], "all different"),
    (["--size", "4"], "between 16 and 1024"),
    (["--layer", "conv77"], "no such layer"),
    (["--net", str(PRETRAINED / "pathonet_synthetic_ki67.h5"), "--data_path", "synthetic:ki67",
      "--count", "24"], "density maps"),
])
def test_bad_input_is_one_line(tmp_path, capsys, changed, message):
    arguments = ["--net", *NETS, "--count", "60", "--output_path", str(tmp_path), *changed]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.rglob("results.json"))
