"""One self-contained HTML page of a run: text, tables and figures, nothing loaded from elsewhere.

    page = Page("What uCWS costs small_cxr", "Trained on generated images.")
    page.table("Bytes", rows)
    page.figure(folder / "sizes.svg", "The index maps are almost all of the file.")
    page.write(folder / "report.html")
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxcompress.runs import write_atomic

DISCLAIMER = "cxcompress is a research tool, not a medical device."
WIDE = 9
"""Columns beyond which a table is printed small."""
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:60rem;
     margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}figure{margin:1.2rem 0}img{max-width:100%;height:auto}
figcaption{color:#444;font-size:.92rem}.note{background:#fff6e0;border-left:4px solid #E69F00;
padding:.5rem .9rem;margin:.6rem 0}footer{color:#555;font-size:.85rem;margin-top:3rem}
pre{background:#f5f5f5;padding:.7rem;overflow-x:auto;font-size:.85rem}
.verdict{border:2px solid #0072B2;padding:.7rem 1rem;margin:1rem 0;font-size:1.05rem}
iframe{width:100%;height:40rem;border:1px solid #ddd}
@media print{body{max-width:none;margin:0;font-size:10.5pt}h1{font-size:16pt}
h2{break-after:avoid}figure,tr,pre,.verdict{break-inside:avoid}thead{display:table-header-group}
.scroll{overflow:visible}table{font-size:8pt}th,td{padding:.15rem .35rem}
.wide{font-size:6pt}.wide th,.wide td{padding:.1rem .2rem;overflow-wrap:anywhere}
pre{white-space:pre-wrap}details{display:none}}
@page{size:A4;margin:16mm}
"""


class Page:
    """A report page, filled from top to bottom.

    Args:
        title: The page's heading.
        lead: One paragraph below it.
    """

    def __init__(self, title: str, lead: str):
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"]

    def heading(self, text: str) -> None:
        """A section heading."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def note(self, text: str) -> None:
        """A line that the reader must not miss."""
        self.parts.append(f'<p class="note">{html.escape(text)}</p>')

    def verdict(self, text: str) -> None:
        """What the page comes to, in a box."""
        self.parts.append(f'<p class="verdict">{html.escape(text)}</p>')

    def page(self, title: str, content: str) -> None:
        """Another whole page, folded away; its scripts, if any, do not run."""
        self.parts.append(
            f"<details><summary>{html.escape(title)}</summary><iframe sandbox loading=lazy "
            f'title="{html.escape(title)}" srcdoc="{html.escape(content)}"></iframe></details>')

    def code(self, text: str) -> None:
        """Preformatted text, such as a command."""
        self.parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, caption: str, rows: Sequence[Mapping[str, str]]) -> None:
        """A table with a caption; the first row's keys are the header."""
        if not rows:
            return
        head = "".join(f'<th scope="col">{html.escape(str(key))}</th>' for key in rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row.values())}</tr>"
            for row in rows
        )
        wide = " class=wide" if len(rows[0]) > WIDE else ""
        self.parts.append(
            f"<figure><figcaption>{html.escape(caption)}</figcaption><div class=scroll>"
            f"<table{wide}>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></figure>"
        )

    def figure(self, path: Path, caption: str) -> None:
        """An SVG or PNG file, embedded, with a caption that says what to see."""
        kind = {".svg": "image/svg+xml", ".png": "image/png"}[path.suffix]
        data = base64.b64encode(path.read_bytes()).decode()
        text = html.escape(caption)
        self.parts.append(
            f'<figure><img alt="{text}" src="data:{kind};base64,{data}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def write(self, path: Path) -> None:
        """Write the page to `path`, atomically."""
        write_atomic(path, (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>"
            + "\n".join(self.parts)
            + f"</main><footer>{DISCLAIMER}</footer></body></html>\n"
        ))
