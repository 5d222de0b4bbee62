"""Tables, figures and the page say what they were given, and nothing a browser would run."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from cxcompress.evaluation import Estimate, Ratio
from cxcompress.reporting import figures
from cxcompress.reporting.html import Page
from cxcompress.reporting.tables import byte_count, interval, number, ratio, text_table


def svg_text(stem) -> str:
    """All text of a figure's SVG; its PNG must be there too."""
    assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return " ".join(ElementTree.parse(stem.with_suffix(".svg")).getroot().itertext())


def test_a_page_escapes_what_it_shows_and_loads_nothing(tmp_path):
    figures.sizes(tmp_path / "sizes", 1000, {"index maps": 200})
    page = Page("<script>alert(1)</script>", "lead & more")
    page.table("caption", [{"a<b": "<img src=x>"}])
    page.note("<b>note</b>")
    page.figure(tmp_path / "sizes.svg", 'a "quoted" caption')
    page.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text and "<img src=x>" not in text and "<b>note" not in text
    assert "http://" not in text and "https://" not in text
    assert "not a medical device" in text


def test_sizes_shows_every_large_part_and_sums_the_rest(tmp_path):
    figures.sizes(tmp_path / "sizes", 4000, {"index maps": 900, "codebooks": 60, "card": 5,
                                             "graphs": 0, "coder lanes": 5})
    text = svg_text(tmp_path / "sizes")
    assert "index maps: 900 bytes" in text and "everything else: 10 bytes" in text
    assert "= 0.242 of it" in text


def test_differences_names_classes_verdicts_and_undefined_ones(tmp_path):
    rows = [
        {"name": "Mass", "difference": -0.01, "low": -0.015, "high": 0.0, "verdict":
         "non-inferior", "positives": 80},
        {"name": "Hernia", "difference": math.nan, "low": math.nan, "high": math.nan,
         "verdict": "undecided", "positives": 0},
    ]
    figures.differences(tmp_path / "differences", rows, 0.02)
    text = svg_text(tmp_path / "differences")
    assert "Mass (n+ = 80)" in text and "undefined" in text and "non-inferior" in text


def test_layers_kept_exactly_can_be_drawn(tmp_path):
    figures.layer_sensitivity(tmp_path / "layers", [
        {"kernel": "conv/kernel", "sqnr_db": math.inf, "output_change": 0.0},
        {"kernel": "dense/kernel", "sqnr_db": 20.0, "output_change": math.nan}])
    assert "dense" in svg_text(tmp_path / "layers")


@pytest.mark.parametrize("worst", [300.0, 1e20])
def test_a_lost_network_does_not_hide_the_losses_of_others(tmp_path, worst):
    rows = [{"compression": "uPWS", "k": k, "treatment": "none", "val_loss": loss}
            for k, loss in ((256, 60.0), (3, worst))]
    figures.fine_tuning_study(tmp_path / "study", rows, {"val_loss": 50.0}, ("val_loss",))
    drawn = (tmp_path / "study.svg").read_text()
    for tick in ("50", "100", "200"):
        assert f">{tick}</text>" in drawn


def test_figures_are_the_same_bytes_for_the_same_numbers(tmp_path):
    for name in ("one", "two"):
        figures.latencies(tmp_path / name, {"Keras": np.array([0.01, 0.02]),
                                            "ours": np.array([0.005, 0.004])})
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(("count", "said"), [(999, "999 B"), (229_600, "229.6 kB"),
                                             (13_500_000, "13.50 MB")])
def test_bytes_are_decimal(count, said):
    assert byte_count(count) == said


def test_numbers_as_people_read_them():
    assert number(math.nan) == "–" and number(0.12345, 2) == "0.12"
    assert ratio(Ratio(1, 4, "bytes")) == "0.2500 (1/4.00)"
    estimate = Estimate(0.9, 0.8, math.nan, 10, 5, 10, "")
    assert interval(estimate) == "0.900 (0.800 to –)"
    assert interval(estimate, 1, sign=True) == "+0.9 (+0.8 to –)"


def test_columns_line_up():
    lines = text_table([{"a": "x", "bytes": "1"}, {"a": "long", "bytes": "1,000"}],
                       right=("bytes",)).splitlines()
    assert lines[2].endswith("    1") and lines[3].endswith("1,000")
    assert len({line.index("b") for line in lines[:1]}) == 1
