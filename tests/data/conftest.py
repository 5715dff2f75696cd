"""Fixtures of the tests of data."""

from image_sets import encode, folder, load, refused, said, summaries

__all__ = ["encode", "folder", "load", "refused", "said", "summaries"]
