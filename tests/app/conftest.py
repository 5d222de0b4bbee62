"""Pictures and files that somebody may drop on the page; and headless Chromium on the page."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PRETRAINED = Path(__file__).parents[2] / "pretrained"


@pytest.fixture(scope="session")
def bundled():
    """Path of a bundled file, by its name."""
    return lambda name: PRETRAINED / f"{name}.h5"


@pytest.fixture(scope="session")
def png():
    """Bytes of a grey picture of noise, by seed."""
    def make(seed: int = 0) -> bytes:
        file = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def server():
    """Address of a served page with the bundled models, and the process."""
    pytest.importorskip("streamlit")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from cxcompress.commands import main; sys.exit(main())",
         "app", "--no_browser", "--port", str(port), "--models", str(PRETRAINED)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the page did not start"
            time.sleep(0.2)
        yield f"http://localhost:{port}", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(20)


class Browser:
    """One person's browser: opens the page, chooses, uploads, reads.

    Args:
        address: Of the page.
        downloads: Folder for what is taken home.
        width, height: Of the window.
        dark: Whether the person prefers dark pages.
    """

    def __init__(self, address: str, downloads: Path, width: int = 1280, height: int = 1400,
                 dark: bool = False):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
                     "disable-background-networking", "disable-component-update", "disable-sync",
                     "disable-dev-shm-usage", f"window-size={width},{height}"):
            options.add_argument(f"--{flag}")
        options.add_experimental_option("prefs", {
            "download.default_directory": str(downloads),
            "profile.default_content_setting_values.automatic_downloads": 1})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        self.downloads = downloads
        devtools = self.driver.execute_cdp_cmd
        devtools("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
        devtools("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        self.driver.get(address)
        self.wait_for("Or an example")

    def text(self) -> str:
        return self.driver.execute_script("return document.body.innerText")

    def wait_for(self, said: str, seconds: float = 90) -> str:
        """All text of the page once it says something and is at rest."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.text() or ""
            if said in text and not self.running():
                return text
            assert time.monotonic() < deadline, f"{said!r} did not come; the page says:\n{text}"
            time.sleep(0.2)

    def wait_until(self, condition: str, seconds: float = 60):
        """What a JavaScript expression gives, once that is true."""
        deadline = time.monotonic() + seconds
        while not (found := self.driver.execute_script(f"return {condition}")):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.2)
        return found

    def running(self) -> bool:
        return bool(self.driver.execute_script(
            "return document.querySelectorAll('[data-testid=stStatusWidget],"
            "[data-stale=true]').length"))

    def press(self, label: str) -> None:
        """Click the button with this label."""
        self._repeated(lambda: self.driver.execute_script(
            "const b = [...document.querySelectorAll('button')].find("
            "b => b.innerText.includes(arguments[0])); b.click()", label))

    def choose(self, label: str, option: str) -> None:
        """Choose a model of a list, by keyboard, and wait until the page is about it."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        def by_keyboard() -> None:
            box = next(box for box in self.driver.find_elements(
                By.CSS_SELECTOR, "[data-testid=stSelectbox]") if label in box.text)
            field = box.find_element(By.TAG_NAME, "input")
            field.send_keys(Keys.CONTROL + "a")
            field.send_keys(option)
            time.sleep(0.5)
            field.send_keys(Keys.ENTER)

        there = "Compressed .h5" if option.startswith("a file") else f"{option} ·"
        # A page that is drawn anew while one types forgets what was typed: then once more.
        for _ in range(5):
            self._repeated(by_keyboard)
            deadline = time.monotonic() + 12
            while time.monotonic() < deadline:
                if there in (self.text() or ""):
                    return
                time.sleep(0.2)
        raise AssertionError(f"{option} was not chosen; the page says: {self.text()}")

    def upload(self, path: Path, place: int = -1) -> None:
        """Give a file to one of the page's uploaders."""
        from selenium.webdriver.common.by import By

        self._repeated(lambda: self.driver.find_elements(
            By.CSS_SELECTOR, "input[type=file]")[place].send_keys(str(path)))

    def downloaded(self, name: str, seconds: float = 30) -> bytes:
        deadline = time.monotonic() + seconds
        while not (self.downloads / name).exists():
            assert time.monotonic() < deadline, f"{name} was not downloaded"
            time.sleep(0.2)
        return (self.downloads / name).read_bytes()

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page where CXCOMPRESS_SCREENSHOTS says, if it does."""
        folder = os.environ.get("CXCOMPRESS_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def close(self) -> None:
        self.driver.quit()

    def _repeated(self, action) -> None:
        """The page may draw itself anew under any action."""
        from selenium.common.exceptions import WebDriverException

        for attempt in range(20):
            try:
                return action()
            except (WebDriverException, StopIteration, IndexError):
                if attempt == 19:
                    raise
                time.sleep(0.5)


@pytest.fixture
def browser(server, tmp_path):
    """Opens browsers on the page; they are closed afterwards."""
    pytest.importorskip("selenium")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    opened: list[Browser] = []

    def open_browser(**options) -> Browser:
        opened.append(Browser(server[0], tmp_path, **options))
        return opened[-1]

    yield open_browser
    for one in opened:
        one.close()
