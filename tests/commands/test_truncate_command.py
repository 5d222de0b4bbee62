"""`truncate.py`: all sizes trained alike, paired differences, files and fronts; and refusals."""

import json
from pathlib import Path

import pytest

from cxcompress.commands.truncate import compression_of, main, mark_front
from cxcompress.errors import InputError
from cxcompress.storage import is_container

NET = Path(__file__).resolve().parents[2] / "pretrained" / "small_cxr_synthetic.h5"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return ["--net", str(NET), "--data_path", "synthetic:cxr", "--count", "300", "--data_seed", "9",
            "--epochs", "1", "--seeds", "0", "--dropped", "2", "--compressions", "uCWS:32",
            "--output_path", str(tmp_path_factory.mktemp("truncate"))]


def test_a_study_has_whole_and_truncated_networks(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "minus whole, paired" in text and "2" in text
    folder = Path(arguments[-1]) / "truncate" / NET.stem
    results = json.loads((folder / "results.json").read_text())
    whole, cut = results["rows"]
    assert (whole["dropped"], cut["dropped"]) == (0, 2)
    assert cut["parameter_ratio"] == pytest.approx(whole["parameters"] / cut["parameters"])
    assert cut["parameter_ratio"] > 3
    assert cut["multiply_accumulates"] < whole["multiply_accumulates"]
    assert cut["difference_value"] == pytest.approx(
        cut["auroc_macro_value"] - whole["auroc_macro_value"])
    assert cut["difference_low"] < cut["difference_value"] < cut["difference_high"]
    files = results["compressed"]
    assert [row["dropped"] for row in files] == [0, 2]
    assert files[1]["bytes"] < files[0]["bytes"] and files[1]["front_bytes"]
    for row in files:
        path = folder / "compressed" / f"{row['dropped']}-uCWS-32.h5"
        assert is_container(path) and path.stat().st_size == row["bytes"]
        assert row["seconds_float32"] > 0
    for name in ("differences.png", "size_and_latency.svg", "truncation.csv", "compressed.csv"):
        assert (folder / name).stat().st_size > 0


@pytest.mark.slow
def test_another_size_is_added_and_what_is_there_stays(arguments):
    folder = Path(arguments[-1]) / "truncate" / NET.stem
    if not folder.exists():
        assert main(arguments) == 0
    before = {path: path.read_bytes() for path in (folder / "units").iterdir()}
    grown = [*arguments]
    grown[grown.index("2")] = "1"
    assert main(grown) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list((folder / "units").iterdir())) == len(before) + 2


@pytest.mark.parametrize("changed, message", [
    (["--dropped", "7"], "can go"),
    (["--net", "nowhere.h5"], "no such file"),
    (["--compressions", "uCWS"], "write NAME:K"),
    (["--lr", "0"], "must be above 0"),
    (["--epochs", "0"], "at least 1"),
])
def test_bad_input_is_one_line(arguments, tmp_path, capsys, changed, message):
    assert main([*arguments[:-1], str(tmp_path), *changed]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("results.json"))


def test_compressions_are_read():
    parsed = compression_of("pruCWS:16:80")
    assert parsed.k["conv"] == 16 and parsed.pruned_percent["dense"] == 80
    for wrong in ("uCWS:x", "uCWS:16:1:2", "uCWS:1.5", "uXYZ:16"):
        with pytest.raises(InputError):
            compression_of(wrong)


def test_a_front_holds_what_nothing_cheaper_beats():
    rows = mark_front([
        {"bytes": cost, "auroc_macro": value, "seconds_float32": cost, "seconds_static_int8": None}
        for cost, value in ((10, 0.9), (20, 0.8), (30, 0.95), (30, 0.9), (5, 0.5))])
    assert [row["front_bytes"] for row in rows] == [True, False, True, False, True]
    assert not any(row["front_static_int8"] for row in rows)
