"""`benchmarks/architectures.py`: what it counts is what was published; networks and plans add."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "architectures.py"


@pytest.fixture(scope="module")
def benchmark():
    found = importlib.util.spec_from_file_location("architectures_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def rows(folder):
    return list(csv.DictReader((folder / "architectures" / "architectures.csv").open()))


def test_a_network_is_counted(benchmark, tmp_path, capsys):
    assert benchmark.main(["--networks", "resnet18", "--plans", "--output_path",
                           str(tmp_path)]) == 0
    assert "| resnet18 | 11,689,512 | the same | 1.81 G | 4.0× |" in capsys.readouterr().out
    (row,) = rows(tmp_path)
    assert int(row["parameters_14"]) == 11_699_112 - 986 * 513
    assert float(row["ratio_2_dropped"]) > float(row["ratio_1_dropped"]) > 1


@pytest.mark.slow
def test_networks_and_plans_are_timed_together(benchmark, tmp_path):
    common = ["--size", "64", "--repeats", "2", "--output_path", str(tmp_path)]
    assert benchmark.main(["--networks", "mobilenetv2", "--plans", "float32", *common]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("units/*.json")}
    assert benchmark.main(["--networks", "mobilenetv2", "resnet18", "mnasnet", "--timed",
                           "mobilenetv2", "resnet18", "--plans", "float32", "static_int8",
                           *common]) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    found = rows(tmp_path)
    assert [row["network"] for row in found] == ["mobilenetv2", "resnet18", "mnasnet"]
    for row in found:
        for plan in ("float32", "static_int8"):
            assert (float(row[f"ms_{plan}"]) > 0) == (row["network"] != "mnasnet")


@pytest.mark.parametrize("arguments, message", [
    (["--networks", "vgg16"], "nothing is published"),
    (["--networks", "inceptionv4", "--size", "64"], "at least 75x75"),
    (["--repeats", "0"], "at least 1"),
    (["--networks", "resnet18", "--timed", "mnasnet"], "not among --networks"),
])
def test_bad_input_is_one_line(benchmark, tmp_path, capsys, arguments, message):
    assert benchmark.main([*arguments, "--output_path", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
