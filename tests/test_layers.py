"""What runs without TensorFlow really does: imported in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def test_reading_a_container_imports_neither_tensorflow_nor_keras():
    script = (
        "import sys\n"
        "import cxcompress, cxcompress.images, cxcompress.tasks, cxcompress.quantization\n"
        "import cxcompress.representation, cxcompress.storage, cxcompress.data\n"
        "import cxcompress.commands.info\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'tensorflow', 'keras', 'tf_keras', 'scipy', 'pandas', 'sklearn', 'matplotlib'}))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout.strip() == "[]", said.stdout + said.stderr
