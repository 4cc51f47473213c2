"""Image sets from a local folder, in the formats in which they are published; nothing is fetched.

Every reader checks the sizes that a file declares before it takes memory, and names file, record
and remedy where something is wrong. Images are bytes; one item of a set is a float32 image
(channels, height, width) in [0, 1] and its label.
"""

from relaxcert.data.images.cifar import cifar100
from relaxcert.data.images.eurosat import eurosat
from relaxcert.data.images.folder import image_folder
from relaxcert.data.images.hugging_face import HuggingFaceImages, hugging_face
from relaxcert.data.images.idx import fashion_mnist
from relaxcert.data.images.sets import ImageArray, ImageFiles, ImageSet
from relaxcert.data.images.tiny_imagenet import tiny_imagenet

__all__ = [
    "HuggingFaceImages",
    "ImageArray",
    "ImageFiles",
    "ImageSet",
    "cifar100",
    "eurosat",
    "fashion_mnist",
    "hugging_face",
    "image_folder",
    "tiny_imagenet",
]
