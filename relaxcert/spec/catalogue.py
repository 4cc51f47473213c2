"""The catalogue: property documents that come with relaxcert, found by name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path

from relaxcert.errors import DocumentError, suggestion
from relaxcert.spec.documents import PropertyDocument, parse_document, read_document
from relaxcert.spec.property import Property


def catalogue() -> list[str]:
    """The names of all documents in the catalogue, sorted.

    Raises:
        DocumentError: the installation lacks its catalogue.
    """
    return sorted(_names(_folder(), ""))


def load_document(name_or_path: str | PathLike[str]) -> PropertyDocument:
    """Read a document from the catalogue ("landsat/soils") or from a .toml file of your own.

    A text that ends in ``.toml``, or a path object, is a path; any other text is a name.

    Raises:
        DocumentError: no such name or file, or the document cannot be read.

    Warns:
        UncoveredClassWarning: a class lies in no affinity set.
    """
    if not isinstance(name_or_path, str):
        return read_document(Path(name_or_path))
    if name_or_path.endswith(".toml"):
        return read_document(name_or_path)
    known = catalogue()
    # Looking the name up in the list, and nowhere else, keeps "../../x" inside the catalogue.
    if name_or_path not in known:
        raise DocumentError(
            f"{name_or_path!r} is not in the catalogue.{suggestion(name_or_path, known)} "
            f"Choose one of {', '.join(known)}, or give a path to a .toml file."
        )
    document = _folder().joinpath(*f"{name_or_path}.toml".split("/"))
    return parse_document(document.read_text("utf-8"), origin=f"catalogue {name_or_path}")


def load_property(name_or_path: str | PathLike[str]) -> Property:
    """The property of :func:`load_document`; raises and warns the same."""
    return load_document(name_or_path).to_property()


def _folder() -> Traversable:
    inside = files("relaxcert").joinpath("properties")
    if inside.is_dir():
        return inside
    # A checkout keeps the catalogue beside the package; a wheel has it inside.
    beside = Path(__file__).parents[2] / "properties"
    if beside.is_dir():
        return beside
    raise DocumentError(
        f"the catalogue of properties is missing: neither {inside} nor {beside} exists; "
        "reinstall relaxcert, or give a path to a .toml file."
    )


def _names(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _names(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield prefix + entry.name.removesuffix(".toml")
