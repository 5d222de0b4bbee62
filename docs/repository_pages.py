"""Pages that live elsewhere in the repository, on the site: a hook of MkDocs (`mkdocs.yml`).

README, contributing guide, changelog, results, model cards and the format lie where a reader of the
repository looks for them. Links are written for the repository; on the site `docs/` is its root, so
each relative link is led to the same file there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ADDED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pretrained/README.md",
         "cxcompress/storage/FORMAT.md", "cxcompress/evaluation/cut_offs.json",
         "experiments/results/**/*", "experiments/notebooks/*.ipynb")
LINK = re.compile(r"(\]\()([^)\s#]+)")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.M | re.S)
PACKAGE = re.compile(r"^::: (cxcompress\.\w+)$", re.M)
MODULE = """::: {name}
    options: {{show_root_heading: true, show_root_full_path: false, show_root_toc_entry: true}}"""


def on_files(files, config):
    """Add the repository's own pages, and the figures and tables beside them."""
    for pattern in ADDED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT),
                                  config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead relative links, written for the repository, to their place on the site.

    A package in the reference becomes its docstring and its public modules: what it re-exports
    would be shown twice otherwise.
    """
    markdown = PACKAGE.sub(_modules, markdown)
    here = page.file.src_uri
    if page.file.src_dir != str(ROOT):
        here = f"docs/{here}"

    def led(match):
        target = match[2]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if (ROOT / path / "README.md").is_file():
            path += "/README.md"
        start = posixpath.dirname(_on_site(here)) or "."
        return match[1] + posixpath.relpath(_on_site(path), start)

    parts = CODE.split(markdown)
    return "".join(part if CODE.fullmatch(part) else LINK.sub(led, part) for part in parts)


def _modules(match) -> str:
    package = match[1]
    folder = ROOT / package.replace(".", "/")
    if not folder.is_dir():
        return MODULE.format(name=package)
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem.strip("_") == path.stem)
    return "\n\n".join([f"::: {package}\n    options: {{members: false}}",
                        *(MODULE.format(name=f"{package}.{name}") for name in modules)])


def _on_site(path: str) -> str:
    return path.removeprefix("docs/")
