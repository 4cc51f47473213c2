"""PropertyConformance: everything that a property inherits once it is written down.

class TestPairOrTriple(PropertyConformance):
    property_under_test = PairOrTriple(Ball.of("0.1"))
"""

from __future__ import annotations

from relaxcert.testing.property_head import PropertyHead
from relaxcert.testing.property_meaning import PropertyMeaning
from relaxcert.testing.property_network import PropertyNetwork


class PropertyConformance(PropertyMeaning, PropertyHead, PropertyNetwork):
    """The conformance suite of a property: subclass it in a test file and name the property.

    Attributes:
        property_under_test: the property.
        num_classes: the number of classes to test with; by default that which the property was
            written for, or a small number that fits it.

    A subclass may override ``reference``, to say independently of the property's code what it
    means, and ``permuted``, to say what the property is after the classes are renamed.
    """
