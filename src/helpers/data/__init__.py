"""Data sets, and the disjoint roles that the bounds need: k training samples, val, val2 and test.

=============  ===========================================================================
``split``      ``Split``: examples with one role; disjoint parts; label noise
``reading``    data sets and loaders of others, read whole, once, and found the same
``inputs``     one tensor, or several as a tuple or a dictionary
``sources``    ``load``: data sets by name, from files whose content is checked
=============  ===========================================================================
"""

from helpers.data.sources import EDITIONS, DataError, data_root, load
from helpers.data.split import (
    Split,
    as_images,
    as_split,
    as_splits,
    check_disjoint,
    disjoint,
    partition,
    with_label_noise,
)

__all__ = [
    "EDITIONS",
    "DataError",
    "Split",
    "as_images",
    "as_split",
    "as_splits",
    "check_disjoint",
    "data_root",
    "disjoint",
    "load",
    "partition",
    "with_label_noise",
]
