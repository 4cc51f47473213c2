"""Floor 4: data. The embedded sets, image sets from a folder, and arrays from files."""

from relaxcert.data.files import read_points
from relaxcert.data.landsat import Split, landsat
from relaxcert.data.letter import letter

__all__ = ["Split", "landsat", "letter", "read_points"]
