"""The suite of the network that the command line names; see relaxcert.testing.networks."""

from relaxcert.testing.networks import NetworkConformance


class TestNetwork(NetworkConformance):
    """``--relaxcert-model`` with ``--relaxcert-property`` on the points of ``--relaxcert-data``."""
