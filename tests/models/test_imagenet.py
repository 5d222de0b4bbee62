"""ImageNet weights through a local HTTP server: taken, refused, and trained without."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.commands.train import build_parser, start_model
from cxcompress.commands.train import main as train
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.models.imagenet import WEIGHTS, imagenet_preprocessing, imagenet_weights


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.requests.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served as Keras' weights are, and an empty cache."""
    pytest.importorskip("pooch")
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    server.requests, server.folder = [], folder
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("CXCOMPRESS_IMAGENET_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("CXCOMPRESS_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def first_kernel(model):
    return next(layer for layer in model.layers if layer.weights).get_weights()[0]


def started(name, *more, notes):
    """The model that `train.py` would train."""
    arguments = build_parser().parse_args(
        ["--model", name, "--pretrained", "imagenet", "--size", "32", *more])
    return start_model(arguments, 14, "sigmoid", notes)


def test_published_weights_start_the_training(server):
    """MobileNetV2's file has no published MD5, so any file of its layout is taken."""
    keras.utils.set_random_seed(5)
    published = keras.applications.MobileNetV2(include_top=False, weights=None,
                                               input_shape=(32, 32, 3))
    published.save(server.folder / WEIGHTS["mobilenetv2"][1])
    path = imagenet_weights("mobilenetv2")
    model = models.build("mobilenetv2", (32, 32, 3), 14, weights=path)
    kernel = first_kernel(published)
    np.testing.assert_array_equal(first_kernel(model), kernel)
    imagenet_weights("mobilenetv2")
    assert len(server.requests) == 1        # the second comes from the cache
    notes: list[str] = []
    model, preprocessing = started("mobilenetv2", "--freeze_backbone", notes=notes)
    assert model.input_shape == (None, 32, 32, 3) and not notes
    assert preprocessing == imagenet_preprocessing("mobilenetv2", (32, 32))
    np.testing.assert_array_equal(first_kernel(model), kernel)
    assert [variable.path for variable in model.trainable_variables] == [
        "predictions/kernel", "predictions/bias"]


def test_a_file_that_is_not_the_published_one_is_refused(server):
    (server.folder / WEIGHTS["densenet121"][1]).write_bytes(b"altered")
    with pytest.raises(InputError, match="not the published file"):
        imagenet_weights("densenet121")


def test_without_them_training_starts_from_scratch_and_says_so(server):
    notes: list[str] = []
    model, _ = started("mobilenetv2", notes=notes)
    assert model.input_shape == (None, 32, 32, 3)
    (note,) = notes
    assert "ImageNet weights of mobilenetv2 cannot be had" in note and "from scratch" in note
    assert "404" in note
    with pytest.raises(InputError, match="small_cxr has no published ImageNet weights"):
        imagenet_weights("small_cxr")


@pytest.mark.slow
def test_a_training_from_scratch_says_so_at_its_end(server, tmp_path, capsys):
    assert train(["--model", "mobilenetv2", "--pretrained", "imagenet", "--size", "32", "--count",
                  "60", "--epochs", "1", "--output_path", str(tmp_path)]) == 0
    assert "trained from scratch" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_every_preprocessing_is_kerass(name):
    """On a grey picture, where the order of the channels does not matter but for their means."""
    modules = {"densenet121": "densenet", "densenet169": "densenet", "mobilenetv2": "mobilenet_v2",
               "resnet50": "resnet50", "vgg16": "vgg16"}
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    ours = imagenet_preprocessing(name, (8, 8))(grey)
    if name not in modules:     # EfficientNet rescales inside the network, which ours leaves out
        np.testing.assert_array_equal(ours, Preprocessing.preset("imagenet", (8, 8), 3)(grey))
        return
    colour = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
    theirs = getattr(keras.applications, modules[name]).preprocess_input(colour.copy())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
