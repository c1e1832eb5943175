"""Comments behind fields of dataclasses as the section "Attributes" of the class, so that the API page has shapes."""

from pathlib import Path

import griffe


class FieldComments(griffe.Extension):
    """List `per_layer: np.ndarray  # (N, L) float64` and properties under Attributes, where the docstring does not."""

    def on_class(self, *, cls: griffe.Class, **kwargs: object) -> None:
        fields = [member for name, member in cls.attributes.items() if not name.startswith("_")]
        lines = [f"    {field.name} ({field.annotation}): {_meaning(field)}" for field in fields]
        if cls.docstring and lines and "Attributes:" not in cls.docstring.value:
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(lines)
        for field in fields:
            field.docstring = None  # or it would stand on the page twice


def _meaning(attribute: griffe.Attribute) -> str:
    """The docstring of a property, or the comment behind a field."""
    if attribute.docstring:
        return attribute.docstring.value.splitlines()[0]
    line = attribute.endlineno or attribute.lineno
    if line is None or not isinstance(attribute.filepath, Path):
        return ""
    return attribute.lines_collection[attribute.filepath][line - 1].partition("  # ")[2]
