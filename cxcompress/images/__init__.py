"""Pictures in, arrays for a model out: reading files and `Preprocessing`.

    image = read_image("chest.png")                       # uint8 or uint16, (h, w) or (h, w, 3)
    preprocessing = Preprocessing.preset("0-1", size=224, channels=3)
    inputs = preprocessing.batch([image])                 # float32 (1, 224, 224, 3)
"""

from cxcompress.images.preprocessing import Preprocessing
from cxcompress.images.reading import image_files, read_image

__all__ = ["Preprocessing", "image_files", "read_image"]
