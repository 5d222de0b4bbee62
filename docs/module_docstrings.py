"""Examples in module docstrings stay examples: an extension of griffe (`mkdocs.yml`).

A docstring of a summary and an indented example loses the indentation, as if it stood in a
function. A module's text begins at the margin, so it is taken as it is written.
"""

from __future__ import annotations

import ast

import griffe


class ModuleDocstrings(griffe.Extension):
    """Take each module's docstring without removing common indentation."""

    def on_module_instance(self, *, node, mod, **kwargs) -> None:
        """Called for each module that was read."""
        if isinstance(node, ast.Module) and mod.docstring is not None:
            mod.docstring.value = ast.get_docstring(node, clean=False).strip()
