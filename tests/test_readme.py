"""README and the docs name what exists; `docs/readme_check.py` reads README as a newcomer does."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from cxcompress.commands import COMMANDS
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def readme_check():
    spec = importlib.util.spec_from_file_location(
        "readme_check", REPOSITORY / "docs" / "readme_check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["readme_check"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_steps_in_order_with_continuations_and_reasons(readme_check):
    text = "\n".join([
        "```sh", "make demo", "# a remark", "one --flag \\", "    --other", "```",
        "<!-- readme-check: skip: needs data -->",
        "    ```sh", "    two", "    ```", "```python", "print(1)", "", "print(2)", "```",
        "```", "no command", "```"])
    assert readme_check.steps(text) == [
        readme_check.Step("make demo", "sh"), readme_check.Step("one --flag --other", "sh"),
        readme_check.Step("two", "sh", "needs data"),
        readme_check.Step("print(1)\n\nprint(2)", "python")]


def test_one_shell_keeps_what_is_set_and_says_each_status(readme_check, tmp_path):
    shell = readme_check.Shell(tmp_path)
    assert shell.run("export NAME=there; cd /") == (0, [])
    assert shell.run('echo "$NAME" "$PWD"') == (0, ["there /"])
    assert shell.run("printf '10%%\\r100%%\\n'; false") == (1, ["100%"])
    assert shell.run("cat") == (0, [])
    shell.close()


def test_readme_is_short_and_has_a_command_that_runs(readme_check):
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.splitlines()) < 300
    found = readme_check.steps(text)
    assert found[0].text == "make demo" and not found[0].skip
    assert {"sh", "python"} == {step.language for step in found if not step.skip}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_commands_and_flags_of_a_page_exist(page, readme_check):
    text = page.read_text()
    for script in re.findall(r"experiments/(?:benchmarks/)?\w+\.py", text):
        assert (REPOSITORY / script).is_file(), script
    for step in readme_check.steps(text):
        words = step.text.split()
        if step.language != "sh" or "help" in step.text:
            continue
        name = None
        if words[0] == "cxcompress":
            name = words[1]
            assert name in COMMANDS, step.text
        elif words[0] == "python" and re.fullmatch(r"experiments/\w+\.py", words[1]):
            name = words[1].removeprefix("experiments/").removesuffix(".py")
        if name is not None and name in COMMANDS:
            source = (REPOSITORY / "cxcompress" / "commands" / f"{name}.py").read_text()
            source += "".join(
                path.read_text()
                for path in (REPOSITORY / "cxcompress" / "commands").glob("*.py")
                if path.stem in ("command_line", "data_flags") or f"commands.{path.stem}" in source
                or re.search(rf"\b{path.stem}\b", source))
            if "add_scheduler_flags" in source:
                source += (REPOSITORY / "cxcompress" / "search" / "scheduling.py").read_text()
            for flag in re.findall(r"(?<=\s)--(\w+)", step.text.split("#")[0]):
                assert f'"--{flag}"' in source or f'"{flag}"' in source, (step.text, flag)


def test_every_page_is_in_the_menu():
    menu = (REPOSITORY / "mkdocs.yml").read_text()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        assert page.relative_to(REPOSITORY / "docs").as_posix() in menu, "add it to mkdocs.yml"
    for page in (REPOSITORY / "experiments" / "results").glob("*.md"):
        assert page.relative_to(REPOSITORY).as_posix() in menu, "add it to mkdocs.yml"
    modules = {path.parent.name for path in (REPOSITORY / "cxcompress").glob("*/__init__.py")}
    for module in modules - {"commands", "app"}:
        assert f"api/{module}.md" in menu
