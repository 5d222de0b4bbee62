"""Run README's commands top to bottom, as a newcomer would, and print what each printed.

    make readme-check                 # a clean clone of HEAD in a temporary folder
    python docs/readme_check.py --folder /tmp/newcomer       # keeps it

Everything runs in one shell, in a clone without what is ignored or not committed, so `make` sets
up a fresh environment first. Blocks marked `sh` are commands, blocks marked `python` scripts.
`<!-- readme-check: skip: why -->` before a block leaves it out, and the list says so. Status 0: all
that was run ended with 0.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SKIP = re.compile(r"<!-- readme-check: skip: (.*?) -->")
FENCE = re.compile(r"^( *)```(\w*)\s*$")
NOT_THE_NEWCOMERS = ("PYTHONPATH", "VIRTUAL_ENV", "CXCOMPRESS_TEST_DATA", "MAKEFLAGS", "MAKELEVEL",
                     "MFLAGS")


@dataclass(frozen=True)
class Step:
    """One command of the README.

    Args:
        text: The command, or the script.
        language: `"sh"` or `"python"`.
        skip: Why it is left out; empty: it is not.
    """

    text: str
    language: str
    skip: str = ""


def steps(readme: str) -> list[Step]:
    """The commands and scripts of a README, in their order."""
    found: list[Step] = []
    skip, language, indent, block = "", "", "", []
    for line in readme.splitlines():
        fence = FENCE.match(line)
        if not language:
            if (said := SKIP.search(line)) is not None:
                skip = said[1]
            elif fence:
                indent, language, block = fence[1], fence[2] or "text", []
        elif fence:
            text = "\n".join(block)
            if language == "sh":
                whole = text.replace("\\\n", " ")
                found += [Step(" ".join(one.split()), "sh", skip) for one in whole.splitlines()
                          if one.strip() and not one.strip().startswith("#")]
            elif language == "python":
                found.append(Step(text, "python", skip))
            skip, language = "", ""
        else:
            block.append(line.removeprefix(indent))
    return found


class Shell:
    """One bash for all commands, so that `source` and `cd` last."""

    def __init__(self, folder: Path):
        environment = {name: value for name, value in os.environ.items()
                       if name not in NOT_THE_NEWCOMERS}
        self._bash = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit status and lines printed; of a progress bar its last state."""
        end = uuid.uuid4().hex
        self._bash.stdin.write(
            f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' {end} $?\n".encode())
        self._bash.stdin.flush()
        lines: list[str] = []
        for raw in self._bash.stdout:  # bytes: text would take a progress bar's returns for lines
            line = raw.decode(errors="replace")
            if line.startswith(end):
                while lines and not lines[-1]:
                    lines.pop()
                return int(line.split()[1]), lines
            lines.append(line.rstrip("\n").rstrip("\r").rsplit("\r", 1)[-1])
        raise SystemExit(f"the shell ended during: {command}")

    def close(self) -> None:
        """End the shell."""
        self._bash.stdin.close()
        self._bash.wait()


def check(folder: Path) -> int:
    """Clone into `folder`, run everything there, print it; returns the exit status."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(folder)],
                   check=True)
    shell = Shell(folder)
    results: list[tuple[str, str, float]] = []
    for step in steps((folder / "README.md").read_text()):
        short = step.text if step.language == "sh" else f"python: {step.text.splitlines()[0]} …"
        print(f"\n$ {step.text}", flush=True)
        if step.skip:
            print(f"  skipped: {step.skip}")
            results.append(("skipped", short, 0.0))
            continue
        command = step.text
        if step.language == "python":
            script = folder.parent / "readme_block.py"
            script.write_text(step.text + "\n")
            command = f"python - < '{script}'"
        begin = time.monotonic()
        status, lines = shell.run(command)
        print("\n".join(f"  {line}" for line in lines))
        results.append(("ok" if status == 0 else f"FAILED ({status})", short,
                        time.monotonic() - begin))
    shell.close()
    print("\nREADME, command by command:")
    for state, short, seconds in results:
        print(f"  {state:12} {seconds:7.1f} s  {short[:90]}")
    failed = sum(state.startswith("FAILED") for state, *_ in results)
    left_out = sum(state == "skipped" for state, *_ in results)
    print(f"{len(results) - failed - left_out} passed, {failed} failed, {left_out} skipped "
          "(they need what a newcomer has not)")
    return int(failed > 0)


def main() -> int:
    """Parse the flags and check."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--folder", type=Path, help="where to clone to, and keep it")
    arguments = parse.parse_args()
    if arguments.folder is not None:
        if arguments.folder.exists():
            parse.error(f"--folder {arguments.folder}: exists")
        arguments.folder.parent.mkdir(parents=True, exist_ok=True)
        return check(arguments.folder.resolve())
    with tempfile.TemporaryDirectory() as folder:
        return check(Path(folder) / "cxcompress")


if __name__ == "__main__":
    sys.exit(main())
