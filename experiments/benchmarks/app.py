"""The page's cold start and memory: from its command to the first answer, one and ten people.

Treatment: `cxcompress app` is started on the bundled models; headless Chromium opens the page,
chooses a model, takes the first example, and nine more windows do the same. Measurement: seconds
from the start of the command until the server listens, until the page is there with a model open,
and until it shows the first answer (the typing and clicks of the script included); the resident
memory of all processes of the server with one and with ten sessions. Needs
`pip install 'cxcompress[app]' selenium`, Chromium and its driver. Output: a table and a CSV.

    python experiments/benchmarks/app.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
         "disable-background-networking", "disable-component-update", "disable-sync",
         "disable-dev-shm-usage", "window-size=1280,1000")
SESSIONS = 10
SECONDS = 120


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from cxcompress.commands.command_line import parser, run

    parse = parser("app.py", "Cold start and memory of the page.",
                   "python experiments/benchmarks/app.py")
    parse.add_argument("--model", default="small_cxr_synthetic-uCWS-256",
                       help="name of a bundled model (small_cxr_synthetic-uCWS-256)")
    return run(parse, lambda arguments: print(benchmark(arguments)), argv)


def benchmark(arguments: argparse.Namespace) -> str:
    """Measure, write the run folder and return the table."""
    from cxcompress.reporting.tables import text_table
    from cxcompress.runs import RunFolder

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    with RunFolder.open(Path(arguments.output_path) / "app", described,
                        overwrite=arguments.overwrite) as folder:
        rows = measure(arguments.model)
        folder.write_csv("app.csv", rows)
        folder.write_json("results.json", {"rows": rows})
    return text_table([{"what": row["what"], "value": f"{row['value']:.2f} {row['unit']}"}
                       for row in rows])


def measure(model: str) -> list[dict]:
    """Rows of what, value and unit."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-c", "import sys; from cxcompress.commands import main; sys.exit(main())",
         "app", "--no_browser", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _until(lambda: _listens(port), "the server did not start")
        listening = time.perf_counter() - began
        address = f"http://localhost:{port}"
        opened = _answer(driver, address, model) - began
        answered = time.perf_counter() - began
        one = _resident(server.pid)
        for _ in range(SESSIONS - 1):
            driver.switch_to.new_window("window")
            _answer(driver, address, model)
        ten = _resident(server.pid)
    finally:
        driver.quit()
        os.killpg(server.pid, 15)
    return [{"what": "command to listening", "value": listening, "unit": "s"},
            {"what": "command to a page with an open model", "value": opened, "unit": "s"},
            {"what": "command to first answer in the browser", "value": answered, "unit": "s"},
            {"what": "server and model processes, 1 session", "value": one / 1e6, "unit": "MB"},
            {"what": f"the same, {SESSIONS} sessions", "value": ten / 1e6, "unit": "MB"}]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), 1).close()
    except OSError:
        return False
    return True


def _answer(driver, address: str, model: str) -> float:
    """Open the page, choose the model by keyboard, take the first example, wait for its answer.

    Returns when the page was there, by `time.perf_counter`.
    """
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def says(text: str) -> bool:
        return text in (driver.execute_script("return document.body.innerText") or "")

    def choose() -> bool:
        try:
            if says(f"{model} ·"):
                return True
            field = driver.find_element(By.CSS_SELECTOR, "[data-testid=stSelectbox] input")
            field.send_keys(Keys.CONTROL + "a")
            field.send_keys(model)
            time.sleep(0.1)
            field.send_keys(Keys.ENTER)
            time.sleep(0.3)
        except WebDriverException:
            pass
        return False

    def take_example() -> bool:
        if says("ms a picture"):
            return True
        driver.execute_script("const b = [...document.querySelectorAll('button')].find("
                              "b => b.innerText.includes('generated')); if (b) b.click()")
        time.sleep(0.5)
        return False

    driver.get(address)
    _until(lambda: says("Or an example"), "the page did not open")
    opened = time.perf_counter()
    _until(choose, f"{model} cannot be chosen")
    _until(take_example, "no answer came")
    return opened


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.05)


def _resident(group: int) -> int:
    """Bytes of all processes that the server started."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rsplit(")", 1)[1].split()[2]) == group:
                lines = (status.parent / "status").read_text().splitlines()
                total += next(1024 * int(line.split()[1]) for line in lines
                              if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
