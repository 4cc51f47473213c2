"""Floor 4: data. The embedded Landsat Satimage set, and arrays from files."""

from relaxcert.data.files import read_points
from relaxcert.data.landsat import Split, landsat

__all__ = ["Split", "landsat", "read_points"]
