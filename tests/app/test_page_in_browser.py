"""The page in a real browser: load, upload, answer, overlay, export, bad files, several people."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

CLASSIFIER = "small_cxr_synthetic-uCWS-256"
OTHER_CLASSIFIER = "small_cxr_synthetic-uCWS-8-fine-tuned"
NUCLEI = "pathonet_synthetic_ki67wide-uCWS-256"


def test_a_radiograph_from_upload_to_export(browser, png, tmp_path):
    page = browser()
    page.choose("Model", CLASSIFIER)
    text = page.wait_for("generated radiograph 1")
    assert text.count("not a medical device") == 1
    assert "trained on generated data" in text
    (tmp_path / "chest.png").write_bytes(png(1))
    page.upload(tmp_path / "chest.png")
    text = page.wait_for("ms a picture")
    assert "Where the model sees" in page.wait_for("Bright places speak for this class")
    page.wait_until("document.querySelectorAll('[data-testid=stVegaLiteChart] .marks').length")
    picture = "document.querySelector('[data-testid=stImage] img')"
    assert page.wait_until(f"{picture}.naturalWidth") == 64
    page.screenshot("radiograph")
    page.press("CSV")
    (row,) = csv.DictReader(io.StringIO(page.downloaded("findings.csv").decode()))
    page.press("JSON")
    found = json.loads(page.downloaded("findings.json"))
    assert row["image"] == found["images"][0]["image"] == "chest.png"
    assert float(row["Effusion"]) == found["images"][0]["Effusion"]
    assert found["model"].startswith(CLASSIFIER) and "not a medical device" in found["notice"]

    # The overlay follows its slider, by keyboard.
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    before = page.wait_until(f"{picture}.src")
    slider = "[data-testid=stSlider] input, [role=slider]"
    page.driver.find_element(By.CSS_SELECTOR, slider).send_keys(Keys.HOME)
    page.wait_until(f"{picture}.src != {json.dumps(before)}")

    # Two models on one picture.
    page.choose("Compare with", OTHER_CLASSIFIER)
    text = page.wait_for(OTHER_CLASSIFIER)
    assert "Both models decide alike" in text or "The models differ on" in text
    page.screenshot("two_models")


def test_bad_files_are_lines_of_text_and_good_ones_are_answered_all_the_same(
    browser, png, tmp_path
):
    page = browser()
    page.choose("Model", CLASSIFIER)
    page.wait_for("generated radiograph 1")
    hostile = "<img src=x onerror=alert(1)>![](x).png"
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("../../good.png", png(2))
        archive.writestr(hostile, b"no picture at all")
    page.upload(tmp_path / "scans.zip")
    text = page.wait_for("ms a picture")
    assert f"{hostile}: not an image that can be read" in text
    assert page.driver.execute_script(
        "return document.querySelectorAll('img[src=\"x\"], script[src=\"x\"]').length") == 0
    page.screenshot("bad_file")
    (tmp_path / "empty.png").write_bytes(b"")
    page.upload(tmp_path / "empty.png")
    page.wait_for("empty.png: an empty file")
    # A container that is none.
    page.choose("Model", "a file of your own")
    page.wait_for("Compressed .h5")
    (tmp_path / "mine.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    page.upload(tmp_path / "mine.h5", place=0)
    page.wait_for("mine.h5: not a cxcompress container; an HDF5 file, perhaps a Keras model")


def test_cells_are_counted_and_one_is_shown(browser, tmp_path):
    page = browser()
    page.choose("Model", NUCLEI)
    page.wait_for("generated Ki-67 field 2")
    page.press("generated Ki-67 field 2")
    text = page.wait_for("Ki-67 index")
    assert "too few for a Ki-67 index" in text and "not the stromal TIL percentage" in text
    page.wait_for("Click a cell to see it")
    page.press("GeoJSON")
    cells = json.loads(page.downloaded("cells.geojson"))["features"]
    assert len(cells) > 5
    page.screenshot("cells")

    # Marks lie on their cells, and a click on one shows that cell.
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    chart = "[data-testid=stVegaLiteChart] .marks "
    page.wait_until(f"document.querySelectorAll('{chart}').length")
    page.driver.execute_script(
        f"document.querySelector('{chart}').scrollIntoView({{block: 'center'}})")
    picture = page.driver.find_element(By.CSS_SELECTOR, f"{chart} image").rect
    marks = page.driver.find_elements(By.CSS_SELECTOR, f"{chart} .mark-symbol path")
    places = np.array([cell["geometry"]["coordinates"] for cell in cells])
    drawn = np.array([(mark.rect["x"] + mark.rect["width"] / 2 - picture["x"],
                       mark.rect["y"] + mark.rect["height"] / 2 - picture["y"]) for mark in marks])
    np.testing.assert_allclose(
        drawn, places / 256 * (picture["width"], picture["height"]), atol=1.5)
    # The one that lies furthest from all others.
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + 999 * np.eye(len(places))
    chosen = apart.min(axis=1).argmax()
    ActionChains(page.driver).move_to_element(marks[chosen]).click().perform()
    page.wait_for(f"cell {chosen + 1}: ")
    page.screenshot("cell")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_on_a_phone(browser, dark):
    page = browser(width=390, height=2600, dark=dark)
    page.choose("Model", CLASSIFIER)
    page.wait_for("generated radiograph 2")
    page.press("generated radiograph 2")
    page.wait_for("Bright places")
    page.wait_until("document.querySelectorAll('[data-testid=stVegaLiteChart] .marks').length")
    wide = page.driver.execute_script(
        "return [document.documentElement.scrollWidth, "
        "...[...document.querySelectorAll('img, .marks, [data-testid=stDataFrame]')]"
        ".map(e => e.getBoundingClientRect().right)]")
    assert max(wide) <= 391
    colour = page.driver.execute_script(
        "return getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    brightness = sum(int(part) for part in colour.removeprefix("rgb(").split(")")[0].split(",")[:3])
    assert (brightness < 200) == dark
    page.screenshot("phone_dark" if dark else "phone")


@pytest.mark.slow
def test_three_people_at_once_each_see_their_own(browser, png, tmp_path):
    def one_person(number: int) -> str:
        page = browser(height=900)
        page.choose("Model", CLASSIFIER)
        page.wait_for("generated radiograph 1")
        path = tmp_path / f"person{number}.png"
        path.write_bytes(png(number))
        page.upload(path)
        page.wait_for("Bright places")
        return page.text()

    with ThreadPoolExecutor(3) as people:
        texts = list(people.map(one_person, range(3)))
    for number, text in enumerate(texts):
        assert f"person{number}.png" in text
        assert not any(f"person{other}.png" in text for other in range(3) if other != number)


@pytest.mark.slow
def test_two_hundred_uploads_do_not_grow_the_server(browser, server, png, tmp_path):
    page = browser(height=900)
    page.choose("Model", CLASSIFIER)
    page.wait_for("generated radiograph 1")

    def upload(number: int) -> None:
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            for each in range(10):
                archive.writestr(f"{number}_{each}.png", png(10 * number + each))
        page.upload(tmp_path / f"{number}.zip")
        page.wait_for("All pictures")
        # Clicked until it is gone: the page may draw itself anew under a click.
        page.wait_until("(document.querySelector('[data-testid=stFileChipDeleteBtn] button')"
                        "?.click(), document.body.innerText.includes('Drop pictures above'))")

    upload(0)
    upload(1)
    before = resident_bytes(server[1].pid)
    for number in range(2, 20):
        upload(number)
    assert resident_bytes(server[1].pid) < before + 60e6


def resident_bytes(group: int) -> int:
    """Of all processes that the server started."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rsplit(")", 1)[1].split()[2]) == group:
                total += next(1024 * int(line.split()[1]) for line in (
                    status.parent / "status").read_text().splitlines()
                    if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
    return total
