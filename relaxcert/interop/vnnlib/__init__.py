"""VNN-LIB: every property at a point as files for other tools, and their files read back."""

from relaxcert.interop.vnnlib.export import export_vnnlib
from relaxcert.interop.vnnlib.linear import Case, Inequality, Interval, VnnLibQuery
from relaxcert.interop.vnnlib.manifest import Manifest, judge, read_manifest
from relaxcert.interop.vnnlib.reader import parse_vnnlib, read_vnnlib
from relaxcert.interop.vnnlib.writer import Point, vnnlib_text

__all__ = [
    "Case",
    "Inequality",
    "Interval",
    "Manifest",
    "Point",
    "VnnLibQuery",
    "export_vnnlib",
    "judge",
    "parse_vnnlib",
    "read_manifest",
    "read_vnnlib",
    "vnnlib_text",
]
