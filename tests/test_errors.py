"""`InputError` is one line that a terminal only prints, whatever a file holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cxcompress.errors import InputError


@given(st.text(st.characters(exclude_categories=()), max_size=2000))
def test_any_text_becomes_one_short_line_without_control_signs(text):
    message = str(InputError(f"table.csv: {text}; labels are 1, 0, -1 or blank"))
    assert message.isprintable() and len(message) <= 620
    assert message.startswith("table.csv:") and message.endswith("labels are 1, 0, -1 or blank")
    message.encode()


def test_what_is_too_long_loses_its_middle():
    message = str(InputError("a" * 1000 + "; remove one"))
    assert " … " in message and message.endswith("; remove one") and len(message) == 600
    assert str(InputError("\x1b[31mred")) == r"\x1b[31mred"
