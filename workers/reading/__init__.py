"""Read a translation data set in any of the accepted formats into segments with their references."""

from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError
from workers.reading.languages import language_name
from workers.reading.segments import BadRow, DataSet, Segment, segments_digest

__all__ = [
    "BadRow",
    "DataError",
    "DataSet",
    "Segment",
    "language_name",
    "read_dataset",
    "segments_digest",
]
