"""Run a compressed `.h5` without TensorFlow and Keras.

    import cxcompress.runtime
    model = cxcompress.runtime.load("model-uCWS.h5", plan="auto", threads=2)
    outputs = model.predict(inputs)                       # as the Keras model gives them
    findings = model.predict_images(["chest.png"])        # classes, probabilities, yes or no

Needs numpy, h5py and ai-edge-litert; Pillow for images, scikit-image for nuclei, pydicom for DICOM.
"""

from cxcompress.runtime.running import PLANS, RuntimeModel, flatbuffer, load

__all__ = ["PLANS", "RuntimeModel", "flatbuffer", "load"]
