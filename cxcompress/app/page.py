"""The page itself, which `cxcompress app` serves with Streamlit.

Every text that comes from a file (names, classes, cards) is shown as text: in tables and charts, or
through `_plain`, never as Markdown or HTML.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from cxcompress.app import answers, examples, pictures, uploads
from cxcompress.app.model_process import Answer, ModelProcess
from cxcompress.errors import InputError
from cxcompress.evaluation.cut_offs import CutOffs
from cxcompress.reporting.cell_pictures import COLOURS, cell_geojson, cell_picture
from cxcompress.runtime.self_test import BUNDLED
from cxcompress.storage import is_container

MODELS_FOLDER = "CXCOMPRESS_APP_MODELS"
"""Environment variable with the folder of bundled models; `cxcompress app --models` sets it."""
_MAP_SIDE = 300
"""Pixels of the field that is clicked on; a phone is 360 wide."""
_SHOWN_FIELD = 1024
UPLOAD = "a file of your own …"
NOTHING = "nothing"
HAD_IT = "of such, had it"
MODELS_KEPT = 4
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
STYLE = """<style>
.st-key-facts {position: sticky; top: 3.2rem; z-index: 50; padding: .3rem .6rem;
  border-radius: .4rem; background: var(--background-color, Canvas); border: 1px solid #8885}
.stMainBlockContainer {padding-top: 3.5rem; max-width: 72rem}
.stMain h1 {font-size: 1.7rem}
</style>"""


@dataclass(frozen=True)
class Model:
    """A model as the page knows it: its name, its process and a key for what it answered."""

    name: str
    process: ModelProcess
    key: str

    @property
    def card(self) -> dict[str, Any]:
        """Its card as a mapping."""
        return self.process.about["card"]


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="cxcompress", page_icon="🫁", layout="wide")
    st.html(STYLE)
    st.title("What a compressed model finds")
    st.info("cxcompress is a research tool, **not a medical device**. Pictures stay on this "
            "machine, and nothing is written to disk.")
    model, other = _models()
    if model is None:
        return
    facts = st.container(key="facts")
    _cards(model, other)
    found = _pictures(model)
    if not found:
        st.text("Drop pictures above, or take an example.")
    elif model.card["task"] == "nuclei":
        _nuclei(model, found)
    else:
        _classes(model, other, found)
    with facts:  # last, since it says how long the answers took
        _facts(model, other)


def _plain(text: str) -> str:
    """Text for a place that takes Markdown, which shows it as it is."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(str(text).split()))


@st.cache_resource(max_entries=MODELS_KEPT, show_spinner="Opening the model …")
def _process(digest: str, name: str, _content: Callable[[], bytes]) -> ModelProcess:
    return ModelProcess(_content(), name)


def _bundled() -> dict[str, Path]:
    folder = Path(os.environ.get(MODELS_FOLDER) or
                  Path(__file__).resolve().parents[2] / "pretrained")
    if not folder.is_dir():  # installed from a wheel
        folder = BUNDLED
    files = sorted(folder.glob("*.h5"))
    return {file.stem: file for file in files if is_container(file)}


def _models() -> tuple[Model | None, Model | None]:
    """The model to ask, and one to compare it with."""
    bundled = _bundled()
    left, right = st.columns(2)
    model = _one_model(left, "Model", bundled, "model")
    if model is None:
        return None, None
    other = _one_model(right, "Compare with", bundled, "other", optional=True)
    if other is not None and (other.card["task"] == "nuclei"
                              or other.card["classes"] != model.card["classes"]):
        if model.card["task"] != "nuclei" or other.card["task"] != "nuclei":
            right.error("Finds other classes than the first model; choose another one.")
        else:
            right.error("Models of nuclei are not compared here; look at one at a time.")
        other = None
    return model, other


def _one_model(place, label: str, bundled: dict[str, Path], key: str,
               optional: bool = False) -> Model | None:
    options = [*([NOTHING] if optional else []), *bundled, UPLOAD]
    # The page opens on the smallest file: it is there soonest.
    first = NOTHING if optional else min(
        bundled, key=lambda name: bundled[name].stat().st_size, default=UPLOAD)
    chosen = place.selectbox(label, options, key=f"{key}_name", index=options.index(first))
    if chosen == NOTHING:
        return None
    if chosen == UPLOAD:
        file = place.file_uploader(
            "Compressed .h5, as cxcompress writes it", key=f"{key}_file",
            max_upload_size=uploads.MAX_CONTAINER_BYTES // 10**6)
        if file is None:
            return None
        name, content = uploads.shown_name(file.name), file.getvalue
    else:
        name, content = chosen, bundled[chosen].read_bytes
    try:
        digest = hashlib.sha256(content()).hexdigest()
        return Model(name, _process(digest, name, content), digest)
    except InputError as error:
        place.error(_plain(str(error)))
        return None


def _facts(model: Model, other: Model | None) -> None:
    """What is always in view: which model, how it runs, what it was trained on."""
    for one in filter(None, (model, other)):
        about = one.process.about
        seconds = st.session_state.get("seconds", {}).get(one.key)
        spent = f"{1000 * seconds:.1f} ms a picture · " if seconds else ""
        generated = " · **trained on generated data**" if one.card["synthetic"] else ""
        st.markdown(f"{_plain(one.name)} · {_plain(about['compression'])}, plan "
                    f"{_plain(about['plan'])} · {spent}"
                    f"{about['memory_bytes'] / 1e6:.0f} MB{generated}")


def _cards(model: Model, other: Model | None) -> None:
    with st.expander("Model card"):
        for one in filter(None, (model, other)):
            st.text(one.name)
            st.json(one.card, expanded=1)


def _pictures(model: Model) -> list[uploads.Picture]:
    """What was dropped, unpacked; or an example."""
    files = st.file_uploader(
        "PNG, JPEG, BMP, TIFF or DICOM, several at once, or a ZIP of them",
        accept_multiple_files=True, key="pictures",
        max_upload_size=uploads.MAX_ZIP_BYTES // 10**6)
    names = examples.names(model.card["task"])
    example = st.pills("Or an example", names, key=f"example_{model.card['task']}")
    found: list[uploads.Picture] = []
    for file in files:
        try:
            found += uploads.pictures(file.name, file.getvalue())
        except InputError as error:
            st.error(_plain(str(error)))
    if not found and example:
        found = [_example(example)]
    if len(found) > uploads.MAX_PICTURES:
        st.warning(f"{len(found)} pictures; the first {uploads.MAX_PICTURES} are looked at.")
        found = found[:uploads.MAX_PICTURES]
    return found


@st.cache_data(max_entries=8, show_spinner="Drawing the example …")
def _example(name: str) -> uploads.Picture:
    return examples.picture(name)


def _answer(model: Model, picture: uploads.Picture, column: int | None = None,
            microns: float | None = None) -> Answer | None:
    """The model's answer, remembered as long as the picture is on the page; errors are shown."""
    kept = st.session_state.setdefault("answers", {})
    key = (model.key, hashlib.sha256(picture.content).hexdigest(), column, microns)
    st.session_state.setdefault("asked", set()).add(key)
    if key not in kept:
        try:
            kept[key] = model.process.answer(picture.name, picture.content, column, microns)
            st.session_state.setdefault("seconds", {})[model.key] = kept[key].seconds
        except InputError as error:
            kept[key] = str(error)
    if isinstance(kept[key], str):
        return None
    return kept[key]


def _answered(model: Model, found: list[uploads.Picture], microns: float | None = None):
    """Pictures with their answers; those that could not be read are named."""
    st.session_state["asked"] = set()
    answered, bar = [], None
    if len(found) > 1:
        bar = st.progress(0.0, "Looking at pictures …")
    for number, picture in enumerate(found, start=1):
        answer = _answer(model, picture, microns=microns)
        if answer is not None:
            answered.append((picture, answer))
        if bar is not None:
            bar.progress(number / len(found))
    if bar is not None:
        bar.empty()
    for error in dict.fromkeys(
            value for key, value in st.session_state["answers"].items()
            if key in st.session_state["asked"] and isinstance(value, str)):
        st.error(_plain(error))
    return answered


def _forget() -> None:
    """Drop the answers on pictures that are no longer here."""
    kept, asked = st.session_state.get("answers", {}), st.session_state.get("asked", set())
    for key in set(kept) - asked:
        del kept[key]


def _chosen_picture(answered: list) -> int:
    if len(answered) == 1:
        return 0
    names = [f"{number}. {picture.name}"
             for number, (picture, _) in enumerate(answered, start=1)]
    return names.index(st.selectbox("Picture", names, key="picture"))


def _classes(model: Model, other: Model | None, found: list[uploads.Picture]) -> None:
    answered = _answered(model, found)
    if not answered:
        _forget()
        return
    number = _chosen_picture(answered)
    picture, answer = answered[number]
    rows = answers.finding_rows(answer, model.card)
    left, right = st.columns([2, 3])
    with left:
        shown = st.selectbox("Where the model sees", [row["class"] for row in rows], key="map")
        opacity = st.slider("Opacity of the overlay", 0.0, 1.0, 0.45, key="opacity")
        with_map = _answer(model, picture, model.card["classes"].index(shown))
        if with_map is not None:
            st.image(pictures.overlay(answer.pixels, with_map.map, opacity), width="stretch")
            st.caption(
                "Bright places speak for this class; the map is exact: its mean is the model's "
                "score before the last function." if with_map.map_kind == "activation" else
                "Bright places matter: hiding them lowers the probability of this class.")
    with right:
        if other is None:
            st.altair_chart(_bars(rows), width="stretch")
        else:
            _side_by_side(model, other, picture, rows)
        _finding_table(rows, model.card)
    if len(answered) > 1:
        st.subheader("All pictures")
        st.dataframe(pd.DataFrame([
            {"picture": one.name} | {row["class"]: row["probability"] for row in sorted(
                answers.finding_rows(reply, model.card),
                key=lambda row: model.card["classes"].index(row["class"]))}
            for one, reply in answered]), hide_index=True)
    _exports(model, answered, CutOffs.known()["ikwg"])
    _forget()


def _bars(rows: list[dict[str, Any]], title: str = "") -> alt.Chart:
    """Probabilities as bars, the most probable first, a tick where the threshold is."""
    data = pd.DataFrame(rows)
    order = list(data["class"])
    place = alt.Y("class:N", sort=order, title=None,
                  axis=alt.Axis(labelLimit=170, labelOverlap=False))
    bars = alt.Chart(data).mark_bar().encode(
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1]), title="probability"),
        y=place, color=alt.Color("present:N", scale=alt.Scale(
            domain=[True, False], range=["#D55E00", "#7F9DB9"]),
            legend=alt.Legend(title=None, orient="bottom", labelExpr=(
                "datum.label == 'true' ? 'found' : 'not found'"))),
        tooltip=["class", alt.Tooltip("probability", format=".3f"), "threshold", "calibration"])
    layers = [bars]
    if data["threshold"].notna().any():
        layers.append(alt.Chart(data).mark_tick(thickness=2, size=18, color="#888").encode(
            x="threshold:Q", y=place, tooltip=[alt.Tooltip("threshold", format=".3f")]))
    chart = alt.layer(*layers).properties(height=120 + 24 * len(rows))
    return chart.properties(title=title) if title else chart


def _side_by_side(model: Model, other: Model, picture: uploads.Picture, rows: list) -> None:
    """Two models on one picture, and whether they decide alike."""
    second = _answer(other, picture)
    if second is None:
        return
    others = answers.finding_rows(second, other.card)
    decided = {row["class"]: row["present"] for row in others}
    differ = [row["class"] for row in rows if row["present"] != decided[row["class"]]]
    if differ:
        st.warning("⚠ The models differ on: " + ", ".join(map(_plain, differ)))
    else:
        largest = max(abs(row["probability"] - one["probability"]) for row in rows
                      for one in others if one["class"] == row["class"])
        st.success(f"✓ Both models decide alike; probabilities differ by at most {largest:.3f}.")
    ordered = sorted(others, key=lambda one: [row["class"] for row in rows].index(one["class"]))
    for column, name, shown in zip(st.columns(2), (model.name, other.name), (rows, ordered),
                                   strict=True):
        column.altair_chart(_bars(shown, name[:40]), width="stretch")


def _finding_table(rows: list[dict[str, Any]], card: dict[str, Any]) -> None:
    data = pd.DataFrame(rows).rename(columns={"calibration": HAD_IT})
    if data["threshold"].isna().all():
        data = data.drop(columns="threshold")
    calibrated = data[HAD_IT].any()
    if not calibrated:
        data = data.drop(columns=HAD_IT)
    st.dataframe(data, hide_index=True, height=36 * (len(data) + 1) + 2, column_config={
        "probability": st.column_config.NumberColumn(format="%.3f"),
        "threshold": st.column_config.NumberColumn(format="%.3f")})
    if calibrated:
        st.caption(f"{HAD_IT.capitalize()}: validation images that had the finding, of the n whose "
                   "probability lay near, with a 95% interval.")
    if card["task"] == "multiclass":
        st.caption("Found is the most probable class.")


def _nuclei(model: Model, found: list[uploads.Picture]) -> None:
    known = CutOffs.known()
    left, right = st.columns(2)
    cut_offs = known[left.selectbox("Cut-offs of the Ki-67 index", list(known), key="cut_offs")]
    microns = None
    if (model.card["preprocessing"] or {}).get("microns_per_pixel"):
        microns = right.number_input(
            "Microns a pixel (empty: the picture is one field as those of the training)",
            min_value=0.05, max_value=10.0, value=None, step=0.05, key="microns")
    answered = _answered(model, found, microns)
    _forget()
    if not answered:
        return
    number = _chosen_picture(answered)
    picture, answer = answered[number]
    facts = answers.cell_facts(answer, model.card, cut_offs)
    columns = st.columns(len(facts["counts"]) + 2)
    for column, (name, count) in zip(columns, facts["counts"].items(), strict=False):
        column.metric(_plain(name), count)
    if facts["ki67_index"] is not None:
        columns[-2].metric("Ki-67 index", f"{facts['ki67_index']:.1%}", facts["ki67_band"],
                           delta_color="off", delta_arrow="off")
    if facts["til_fraction"] is not None:
        columns[-1].metric("TIL fraction", f"{facts['til_fraction']:.1%}")
    if facts["too_few_nuclei"]:
        st.warning("Fewer than 500 tumour nuclei: too few for a Ki-67 index.")
    st.caption("TIL fraction: lymphocytes / all cells, not the stromal TIL percentage of the H&E "
               "guidelines.")
    cells = _cell_table(answer, model.card)
    left, right = st.columns([3, 2])
    with left:
        enlarge = max(1, _SHOWN_FIELD // max(answer.pixels.shape[:2]))
        scale = answer.pixels.shape[1] / answer.size[1]
        st.image(cell_picture(answer.pixels, answer.findings["cells"] * (scale, scale, 1),
                              enlarge=enlarge), width="stretch")
        st.caption(" · ".join(f":{colour}[●] {_plain(name)}" for colour, name in zip(
            ("orange", "blue", "green"), facts["counts"], strict=False)))
    with right:
        event = st.altair_chart(_field(answer, cells, model.card["classes"]), width="content",
                                on_select="rerun", key=f"field{number}")
        st.caption("Click a cell to see it, or choose its row in the table.")
        table = st.dataframe(cells, hide_index=True, on_select="rerun", height=220,
                             selection_mode="single-row", key=f"cells{number}")
        clicked = [point.get("cell") for point in event.selection.get("cell", [])]
        rows = table.selection.rows or [int(cell) - 1 for cell in clicked if cell is not None]
        if rows and 0 <= rows[0] < len(cells):
            cell = cells.iloc[rows[0]]
            st.image(pictures.cell_crop(answer.pixels, answer.size, cell["x"], cell["y"]))
            st.text(f"cell {int(cell['cell'])}: {cell['class']}")
    st.download_button("GeoJSON for QuPath", cell_geojson(
        answer.findings["cells"], model.card["classes"]), "cells.geojson",
        "application/geo+json", on_click="ignore")
    _exports(model, answered, cut_offs)


def _cell_table(answer: Answer, card: dict[str, Any]) -> pd.DataFrame:
    cells = answer.findings["cells"]
    return pd.DataFrame({
        "cell": np.arange(1, len(cells) + 1),
        "class": [card["classes"][int(label) - 1] for label in cells[:, 2]],
        "x": cells[:, 0].round(1), "y": cells[:, 1].round(1)})


def _field(answer: Answer, cells: pd.DataFrame, classes: list[str]) -> alt.LayerChart:
    """The field, small, with a mark on every cell, which a click selects."""
    height, width = answer.size
    picture = Image.fromarray(answer.pixels).convert("RGB")
    sizes = {"width": _MAP_SIDE, "height": round(_MAP_SIDE * height / width)}
    file = io.BytesIO()
    picture.resize((2 * sizes["width"], 2 * sizes["height"])).save(file, "JPEG", quality=85)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    x = alt.X("x", scale=alt.Scale(domain=[0, width], nice=False), axis=None)
    y = alt.Y("y", scale=alt.Scale(domain=[height, 0], nice=False), axis=None)
    middle = pd.DataFrame({"x": [width / 2], "y": [height / 2], "picture": [address]})
    # As large as the plot is drawn in the end, which leaves room around it: else marks lie beside
    # their cells.
    backdrop = alt.Chart(middle).mark_image(
        width=alt.ExprRef("width"), height=alt.ExprRef("height")).encode(x=x, y=y, url="picture")
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
    marks = alt.Chart(cells).mark_point(size=70, strokeWidth=1.5).encode(
        x=x, y=y, tooltip=["cell", "class"], fill=alt.value("rgba(0,0,0,0.001)"),
        color=alt.Color("class:N", legend=None, scale=alt.Scale(
            domain=classes, range=list(COLOURS[:len(classes)]))),
        shape=alt.Shape("class:N", legend=None, scale=alt.Scale(
            domain=classes, range=shapes[:len(classes)])),
    ).add_params(alt.selection_point(name="cell", fields=["cell"], on="click"))
    return alt.layer(backdrop, marks).properties(**sizes)


def _exports(model: Model, answered: list, cut_offs: CutOffs) -> None:
    rows = [answers.export_row(picture.name, answer, model.card, cut_offs)
            for picture, answer in answered]
    left, right = st.columns(2)
    left.download_button("CSV", answers.to_csv(rows), "findings.csv", "text/csv",
                         on_click="ignore")
    right.download_button("JSON", answers.to_json(rows, model.process.about), "findings.json",
                          "application/json", on_click="ignore")


main()
