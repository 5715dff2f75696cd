"""Fixtures of the tests of files: pictures are read through `data.load`, as users read them."""

from image_sets import encode, folder, load, refused, said, summaries

__all__ = ["encode", "folder", "load", "refused", "said", "summaries"]
