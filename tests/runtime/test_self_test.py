"""The self-test passes here, and fails where anything is not as stored."""

from __future__ import annotations

import copy
import json

import pytest

from cxcompress.errors import InputError
from cxcompress.runtime import self_test
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def found():
    return self_test.answers()


@pytest.fixture
def expected():
    return json.loads(self_test.EXPECTED.read_text())


def test_this_machine_answers_as_stored(found, expected):
    assert self_test.differences(found, expected) == []


def test_the_installed_file_is_the_bundled_one():
    assert self_test.MODEL.read_bytes() == (
        REPOSITORY / "pretrained" / self_test.MODEL.name).read_bytes()


def test_each_kind_of_difference_is_named(found, expected):
    for change, said in (
        (lambda one: one.update(weights="0" * 64), "weights are decoded differently"),
        (lambda one: one.update(picture="0" * 64), "picture is drawn differently"),
        *((lambda one, plan=plan, by=by: one["plans"].update({plan: one["plans"][plan] + by}),
           f"plan {plan} answers")
          for plan, tolerance in self_test.TOLERANCES.items()
          for by in (1.5 * tolerance, -1.5 * tolerance, float("nan"))),
    ):
        other = copy.deepcopy(expected)
        change(other)
        lines = self_test.differences(found, other)
        assert len(lines) == 1 and said in lines[0]


def test_one_altered_weight_is_noticed(found):
    from cxcompress.storage import read_container

    shared = read_container(self_test.MODEL).shared
    assert self_test.weights_digest(shared) == found["weights"]
    kernel = shared.kernels[next(iter(shared.kernels))]
    kernel.indices.setflags(write=True)
    kernel.indices.flat[0] ^= 1
    assert self_test.weights_digest(shared) != found["weights"]


def test_a_damaged_file_is_one_line(tmp_path, monkeypatch):
    damaged = bytearray(self_test.MODEL.read_bytes())
    damaged[9000] ^= 1
    (tmp_path / "x.h5").write_bytes(damaged)
    monkeypatch.setattr(self_test, "MODEL", tmp_path / "x.h5")
    with pytest.raises(InputError, match="x.h5"):
        self_test.answers()
    monkeypatch.setattr(self_test, "MODEL", tmp_path / "none.h5")
    with pytest.raises(InputError, match="install cxcompress again"):
        self_test.answers()
