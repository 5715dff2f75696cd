"""The cache is private: mode 0700, and unused if others may write to it or own it."""

import os
import warnings

import numpy as np
import pytest

from genjax.metrics import extractors, features, sets
from genjax.runtime import cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def mode(path):
    return path.stat().st_mode & 0o777


def test_folders_are_made_for_their_user_alone(root):
    before = os.umask(0)
    try:
        assert cache.private("programs/x86-1") == root / "programs" / "x86-1"
    finally:
        os.umask(before)
    assert [mode(path) for path in (root, root / "programs", root / "programs/x86-1")] == [
        0o700
    ] * 3
    assert cache.private("programs/x86-1") == root / "programs" / "x86-1"


@pytest.mark.parametrize("part", [".", "features"])
@pytest.mark.parametrize("wrong", [0o770, 0o777, 0o702])
def test_what_others_may_write_to_is_not_used(root, part, wrong):
    (root / "features").mkdir(parents=True)
    (root / part).chmod(wrong)
    with pytest.warns(
        UserWarning,
        match=r"nothing is cached: others may write to .*chmod go-w it, or set GENJAX_CACHE",
    ):
        assert cache.private("features") is None
    (root / part).chmod(0o755)  # readable by others is no danger to what is read
    before = mode(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.private("features") == root / "features"
    assert mode(root / "features") == 0o700  # it was as version 0.1 made it
    assert mode(root) == before  # the folder that the user named


def test_what_another_user_owns_is_not_used(root, monkeypatch):
    cache.private("features")
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.warns(
        UserWarning, match="belongs to another user; set GENJAX_CACHE to a folder of your own"
    ):
        assert cache.private("features") is None


def test_a_file_in_the_way_or_a_full_disk_costs_time_alone(root):
    root.parent.mkdir(exist_ok=True)
    root.write_bytes(b"")
    assert cache.private("features") is None


def test_features_are_made_without_a_private_folder(root):
    (root / "features").mkdir(parents=True)
    (root / "features").chmod(0o777)
    toy = extractors.wrap(lambda images: images.reshape(len(images), -1) / 255, "toy", digest="1")
    images = sets.open_set(np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3))
    with pytest.warns(UserWarning, match="nothing is cached"):
        result = features.kept(images, toy, ("features",))
    np.testing.assert_allclose(result["features"], np.arange(48).reshape(4, 12) / 255, rtol=1e-6)
    assert not list((root / "features").iterdir())
