"""Uploads: sizes are counted, not believed; names are only shown; a ZIP bomb is one line."""

import io
import zipfile

import pytest

from cxcompress.app import uploads
from cxcompress.app.uploads import pictures, shown_name
from cxcompress.errors import InputError


def zipped(files: dict[str, bytes], **options) -> bytes:
    image = io.BytesIO()
    with zipfile.ZipFile(image, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return image.getvalue()


def test_a_picture_is_itself_and_a_zip_gives_its_files():
    (alone,) = pictures("C:\\scans\\a.png", b"\x89PNG")
    assert alone.name == "a.png" and alone.content == b"\x89PNG"
    content = zipped({"b/": b"", "b/one.png": b"1", "two.dcm": b"2", "__MACOSX/._one.png": b"x",
                      ".DS_Store": b"x"})
    found = list(pictures("scans.bin", content))  # told by content, not by name
    assert [(one.name, one.content) for one in found] == [("one.png", b"1"), ("two.dcm", b"2")]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\passwd",
                                  "a/../../passwd"])
def test_paths_in_a_zip_are_only_shown_and_only_their_end(name):
    (found,) = pictures("x.zip", zipped({name: b"1"}))
    assert found.name == "passwd"


def test_names_are_made_fit_to_be_shown():
    assert shown_name("a\nb\x1b[31m.png") == "a�b�[31m.png"
    assert len(shown_name("x" * 500 + ".png")) <= 80 and shown_name("x" * 500 + ".png")[-4:] == (
        ".png")
    assert shown_name("") == "file"
    assert shown_name("<script>.png") == "<script>.png"  # escaped where it is drawn


def test_bombs_are_stopped_by_what_they_unpack_to(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_PICTURE_BYTES", 1_000_000)
    monkeypatch.setattr(uploads, "MAX_ZIP_BYTES", 3_000_000)
    bomb = zipped({"a.png": bytes(5_000_000)})
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match=r"a.png: unpacks to more than 1 MB"):
        list(pictures("bomb.zip", bomb))
    many = zipped({f"{i}.png": bytes(900_000) for i in range(9)})
    given = []
    with pytest.raises(InputError, match=r"unpacks to more than 0 MB"):
        given.extend(pictures("many.zip", many))
    # The directory may lie about sizes; bytes are counted all the same.
    lying = bytearray(bomb)
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24:at + 28] = (100).to_bytes(4, "little")
    with pytest.raises(InputError, match="cannot be read|unpacks to more"):
        list(pictures("lying.zip", bytes(lying)))


@pytest.mark.parametrize(("content", "said"), [
    (b"", "an empty file"),
    (zipped({}), "a ZIP without files"),
    (zipped({"a.png": b""}), "a.png: an empty file"),
    (zipped({"inner.zip": zipped({"a.png": b"1"})}), "a ZIP within a ZIP"),
    (zipped({f"{i}.png": b"1" for i in range(201)}), "201 files; give at most 200"),
])
def test_what_is_refused_is_said_in_one_line(content, said):
    with pytest.raises(InputError, match=said) as caught:
        list(pictures("up.zip", content))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("up.zip")


def test_damaged_and_encrypted_zips():
    whole = zipped({"a.png": bytes(range(256)) * 40})
    broken = bytearray(whole)
    broken[60:90] = bytes(30)
    with pytest.raises(InputError, match="cannot be read; pack it again"):
        list(pictures("up.zip", bytes(broken)))
    locked = bytearray(whole)
    locked[6] |= 1
    locked[locked.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match="encrypted; give a ZIP without a password"):
        list(pictures("up.zip", bytes(locked)))


def test_a_picture_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_PICTURE_BYTES", 100)
    with pytest.raises(InputError, match="more than 0 MB"):
        list(pictures("a.png", bytes(101)))
