"""Advisories for two aircraft, with no download: an encounter table solved from scratch.

The same five advisories as ACAS Xu, from a published decision process (HorizontalCAS).
"""

from relaxcert.data.hcas.model import CLASS_NAMES
from relaxcert.data.hcas.parts import hcas
from relaxcert.data.hcas.table import Table, load_table

__all__ = ["CLASS_NAMES", "Table", "hcas", "load_table"]
