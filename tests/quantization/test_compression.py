import json

import pytest

from cxcompress.errors import InputError
from cxcompress.quantization import COMPRESSION_NAMES, Compression, names


@pytest.mark.parametrize("name", COMPRESSION_NAMES)
def test_every_name_survives_the_round_trip(name):
    percent = 50 if name.startswith("pr") else 0
    compression = Compression.parse(name, clustercnn=16, clusterfc=0, prcnn=percent)
    assert compression.name == name
    config = json.loads(json.dumps(compression.get_config()))
    assert Compression.from_config(config) == compression
    if compression.quantizer:
        assert compression.quantizer in names()
        assert compression.k == {"conv": 16, "dense": 0}
        assert compression.quantizer_for("conv").k == 16
    else:
        assert compression.k == {"conv": 0, "dense": 0}


def test_all_nine_names_of_the_prior_scripts_are_known():
    assert {"pr", "uCWS", "uPWS", "uUQ", "uECSQ", "pruCWS", "pruPWS", "pruUQ", "pruECSQ"} <= set(
        COMPRESSION_NAMES)


def test_meaning():
    compression = Compression.parse("pruCWS", clustercnn=64, clusterfc=8, prcnn=30, prfc=90.5)
    assert (compression.quantizer, compression.scope) == ("CWS", "unified")
    assert compression.k_for("depthwise") == 64 and compression.percent_for("dense") == 90.5
    assert Compression.parse("CWS").scope == "layer"
    assert Compression.parse("uUQ").grid == "int8" and Compression.parse("uCWS").grid == "free"
    assert Compression.parse("uUQ", clustercnn=300).grid == "free"
    ecsq = Compression.parse("uECSQ", bits_per_weight=2.5, tr=1e-3).quantizer_for("dense")
    assert (ecsq.bits_per_weight, ecsq.tolerance, ecsq.lambda_) == (2.5, 1e-3, None)


def test_keep_float_names_a_layer_anywhere_in_the_path():
    compression = Compression.parse("uCWS", keep_float=["stem", "block1/conv", "depthwise"])
    assert compression.keeps_float("stem/kernel", "conv") == "stem"
    assert compression.keeps_float("backbone/block1/conv/kernel", "conv") == "block1/conv"
    assert compression.keeps_float("block10/conv/kernel", "conv") is None
    assert compression.keeps_float("stem2/kernel", "conv") is None
    assert compression.keeps_float("any/kernel", "depthwise") == "depthwise"
    assert compression.keeps_float("any/kernel", "conv") is None


@pytest.mark.parametrize(("name", "flags", "message"), [
    ("cws", {}, "--compression cws: no such compression; choose one of pr, uUQ, uCWS"),
    ("upr", {}, "no such compression"),
    ("prupr", {}, "no such compression"),
    ("uCWS", {"clustercnn": 65_537}, "--clustercnn must be a whole number, 1 to 65536"),
    ("uCWS", {"clusterfc": -1}, "--clusterfc must be .* received -1"),
    ("uCWS", {"clusterfc": 1.5}, "--clusterfc must be .* received 1.5"),
    ("uCWS", {"clustercnn": 0, "clusterfc": 0}, "both 0"),
    ("pruCWS", {"prcnn": 100}, "--prcnn must be a percentage of 0 or more and below 100"),
    ("pruCWS", {"prfc": float("nan")}, "--prfc must be a percentage"),
    ("pruCWS", {}, "prunes, but --prcnn and --prfc are both 0.*take uCWS"),
    ("pr", {}, "prunes, but"),
    ("uCWS", {"prcnn": 50}, "does not prune.*take pruCWS"),
    ("uCWS", {"lambd": 0.1}, "--lambd belongs to ECSQ"),
    ("uPWS", {"bits_per_weight": 2}, "--bits_per_weight belongs to ECSQ"),
    ("uECSQ", {"bits_per_weight": 2, "lambd": 0.0}, "takes one target"),
    ("pruCWS", {"clustercnn": 1, "prcnn": 50}, "--clustercnn 1 with --prcnn 50"),
    ("uUQ", {"grid": "int4"}, "--grid must be int8 or free, received int4"),
    ("uUQ", {"grid": "int8", "clusterfc": 257}, "at most 255 shared values"),
])
def test_contradictions_give_one_clear_line(name, flags, message):
    with pytest.raises(InputError, match=message) as error:
        Compression.parse(name, **flags)
    assert "\n" not in str(error.value)
