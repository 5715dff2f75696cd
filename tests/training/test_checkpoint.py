"""Checkpoints: what is kept, what damage does, what is refused; weights and settings on
disk.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core
from genjax.errors import InputError
from genjax.files import outputs
from genjax.training import checkpoint, run_folder

# The reads that Orbax gives up on, of a damaged checkpoint, warn when they are
# collected: here, and not in some later test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings(
        "ignore:coroutine .* was never awaited:RuntimeWarning"
    ),  # when pytest.warns meets them
]


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def state(step, value=1.0):
    noise = jax.random.normal(jax.random.key(0), (64, 64))  # which the storage cannot compress
    return core.new_state({"net": {"w": noise + value}}, {"net": ()}).replace(step=jnp.int32(step))


@pytest.fixture
def manager(tmp_path):
    manager = checkpoint.manager(tmp_path, keep=2, best="loss/a")
    yield manager
    manager.close()


def like():
    return jax.eval_shape(lambda: state(0))


def fill(manager, losses):
    for step, loss in losses.items():
        checkpoint.save(manager, state(step, step), {"step": step, "loss/a": loss})
        manager.wait_until_finished()


def test_nothing_to_restore(manager):
    assert checkpoint.restore(manager, like()) is None


def test_the_newest_and_the_best_are_kept(manager):
    fill(manager, {1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0, 5: 2.0})
    assert sorted(manager.all_steps()) == [2, 4, 5]
    assert int(checkpoint.restore(manager, like()).step) == 5
    best = checkpoint.restore(manager, like(), step=2)
    np.testing.assert_array_equal(best.params["net"]["w"], state(2, 2).params["net"]["w"])


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_newest_falls_back_with_a_warning(tmp_path, manager, damage):
    fill(manager, {1: 3.0, 2: 2.0})
    files = [
        path
        for path in (tmp_path / "checkpoints" / "2" / "state").rglob("*")
        if path.is_file() and path.stat().st_size > 500
    ]
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        if damage == "remove":
            path.unlink()
        else:
            middle = len(content) // 2
            content = (
                content[:middle]
                if damage == "truncate"
                else content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]
            )
            path.write_bytes(content)
    with pytest.warns(UserWarning, match="checkpoint 2 is damaged"):
        restored = checkpoint.restore(manager, like())
    assert int(restored.step) == 1
    assert (tmp_path / "damaged-checkpoint-2").is_dir()  # set aside, not lost
    fill(manager, {2: 2.0})  # and the step can be saved again
    assert int(checkpoint.restore(manager, like()).step) == 2


def test_a_damaged_one_that_was_asked_for_is_said_beside_what_there_is(tmp_path, manager):
    fill(manager, {1: 3.0, 2: 2.0})
    for path in (tmp_path / "checkpoints" / "2" / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            path.unlink()
    with pytest.raises(
        InputError, match=r"step 2: that checkpoint of .* is damaged; there is also 1$"
    ):
        checkpoint.restore(manager, like(), 2)
    assert int(checkpoint.restore(manager, like(), 1).step) == 1


def test_altered_bytes_are_noticed(manager, monkeypatch):
    """Even those that no checksum of the storage covers."""
    fill(manager, {1: 3.0, 2: 2.0})
    sums = next(Path(manager.directory / "2" / "sums").glob("metadata"))
    recorded = json.loads(sums.read_text())
    sums.write_text(json.dumps({name: value ^ 1 for name, value in recorded.items()}))
    shutil.rmtree(manager.directory / "2" / "record")
    with pytest.warns(UserWarning, match="bytes of .* are not those that were written"):
        assert int(checkpoint.restore(manager, like()).step) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_another_structure_is_said_and_is_no_damage(tmp_path, manager, recorded):
    """Also of a checkpoint of version 0.1, which has no record."""
    fill(manager, {1: 3.0})
    if not recorded:
        shutil.rmtree(tmp_path / "checkpoints/1/record")
    whole = like()
    for other, why in [
        (
            {"net": {"w": jnp.zeros((3,))}},
            r"params/net/w is float32 \[64, 64\], these need float32 \[3\]",
        ),
        (
            {"net": {"w": jnp.zeros((64, 64), jnp.bfloat16)}},
            r"params/net/w is float32 \[64, 64\], these need bfloat16 \[64, 64\]",
        ),
        (
            {"net": {"v": jnp.zeros((64, 64))}},
            "it holds no params/net/v; it holds params/net/w, which these do not need",
        ),
    ]:
        with pytest.raises(
            InputError,
            match=f"checkpoint 1 does not fit these settings: {why}; .* `transfer` {tmp_path}",
        ):
            checkpoint.restore(
                manager, jax.eval_shape(lambda other=other: core.new_state(other, {"net": ()}))
            )
    assert sorted(manager.all_steps()) == [1]
    assert int(checkpoint.restore(manager, whole).step) == 1


def test_when_none_can_be_read_nothing_is_started_over_or_removed(tmp_path, manager):
    fill(manager, {1: 3.0, 2: 2.0})
    for step in (1, 2):
        (tmp_path / f"checkpoints/{step}/sums/metadata").write_bytes(b"{")
    with pytest.raises(
        InputError, match=r"no checkpoint can be read: 2, 1 damaged .*; choose another folder"
    ) as said:
        checkpoint.restore(manager, like())
    assert "remove" not in str(said.value)
    assert sorted(manager.all_steps()) == [1, 2]


def files_of_a_checkpoint():
    """Names by role: those of the storage are digests."""
    return [
        "_CHECKPOINT_METADATA",
        "sums/metadata",
        "record/metadata",
        "state/_METADATA",
        "state/manifest.ocdbt",
        "state/d/*",
    ]


@pytest.mark.parametrize("file", files_of_a_checkpoint())
@pytest.mark.parametrize("damage", ["empty", "flip", "folder", "pipe", "link"])
def test_whatever_happens_to_a_file_the_state_is_right(tmp_path, file, damage):
    """It is either whole, verified by its sums, or that of the checkpoint before, and
    then the damaged one is set aside.
    """
    with checkpoint.manager(tmp_path) as manager:
        fill(manager, {1: 3.0, 2: 2.0})
    for path in (tmp_path / "checkpoints/2").glob(file):
        content = bytearray(path.read_bytes())
        path.unlink()
        if damage == "folder":
            path.mkdir()
        elif damage == "pipe":
            os.mkfifo(path)
        elif damage == "link":
            path.symlink_to("/dev/zero")
        else:
            content[len(content) // 2] ^= 0x10
            path.write_bytes(content if damage == "flip" else b"")
    with checkpoint.manager(tmp_path) as manager, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        restored = checkpoint.restore(manager, like())
        step = int(restored.step)
        np.testing.assert_array_equal(
            restored.params["net"]["w"], state(step, step).params["net"]["w"]
        )
        assert step == (1 if (tmp_path / "damaged-checkpoint-2").exists() else 2)
        if damage in ("pipe", "link"):
            assert step == 1


def test_one_that_is_damaged_again_gets_a_free_name(tmp_path, manager):
    fill(manager, {1: 3.0, 2: 2.0})
    for name in ("damaged-checkpoint-2", "damaged-checkpoint-2-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of an earlier time").write_text("")
    (tmp_path / "checkpoints/2/sums/metadata").write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint 2 is damaged"):
        assert int(checkpoint.restore(manager, like()).step) == 1
    assert (tmp_path / "damaged-checkpoint-2-3/sums").is_dir()
    assert (tmp_path / "damaged-checkpoint-2/of an earlier time").exists()


@pytest.mark.parametrize("steps", [{1: 3.0}, {}])
def test_a_file_in_the_place_of_a_checkpoint_is_set_aside(tmp_path, manager, steps):
    fill(manager, steps)
    (tmp_path / "checkpoints/2").write_bytes(b"x")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        restored = checkpoint.restore(manager, like())
    assert (int(restored.step) if restored else None) == (1 if steps else None)
    assert (tmp_path / "damaged-checkpoint-2").read_bytes() == b"x"
    fill(manager, {2: 2.0})
    assert int(checkpoint.restore(manager, like()).step) == 2


def test_what_the_machine_lacks_is_no_damage(manager, monkeypatch):
    fill(manager, {1: 3.0})

    def short(*_):
        raise MemoryError("of the machine")

    monkeypatch.setattr(checkpoint, "_read", short)
    with pytest.raises(MemoryError):
        checkpoint.restore(manager, like())
    assert sorted(manager.all_steps()) == [1]


def test_the_best_is_kept_over_a_restart_and_multiples_for_good(tmp_path):
    for losses in ({1: 5.0, 2: 1.0, 3: 4.0}, {4: 3.0, 5: 2.0, 6: 2.5, 7: 2.0}):
        with checkpoint.manager(tmp_path, keep=1, best="loss/a", keep_every=3) as manager:
            for step, loss in losses.items():
                checkpoint.save(
                    manager, state(step, step), {"step": step, "loss/a": loss}, "loss/a"
                )
                manager.wait_until_finished()
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [2, 3, 6, 7]
    rows = checkpoint.listing(tmp_path)
    assert [(row.step, row.metrics["loss/a"], row.best) for row in rows] == [
        (2, 1, True),
        (3, 4, False),
        (6, 2.5, False),
        (7, 2, False),
    ]
    (tmp_path / "checkpoints/2/record/metadata").write_bytes(b"\xff")
    assert next((row.step, row.metrics, row.best) for row in checkpoint.listing(tmp_path)) == (
        2,
        {},
        False,
    )
    with pytest.raises(InputError, match="no such folder"):
        checkpoint.listing(tmp_path / "none")


def test_leftover_temporary_files_are_removed(tmp_path):
    """Those of a process that is gone, and those that version 0.1 wrote."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    part = outputs._part("metrics.jsonl")
    left = part.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    names = [".config.json.17", ".model.safetensors.4", left, f"samples/{left}"]
    others = [".bashrc", ".config.json.bak", "samples/note.txt", ".lock", part]
    for name in (*names, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    run_folder.remove_leftovers(tmp_path)
    assert [name for name in (*names, *others) if (tmp_path / name).exists()] == others


def test_a_state_that_is_not_finite_is_not_saved(manager):
    with pytest.raises(FloatingPointError, match="params/net/w is not finite at step 3"):
        checkpoint.save(manager, state(3, np.nan), {})
    assert not manager.all_steps()


def test_weights_keep_their_shapes_and_orders(tmp_path):
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    weights = {
        "params": {
            "net": {"scalar": np.float32(2), "none": np.zeros((0, 2), np.float32), "turned": turned}
        },
        "stats": {},
    }
    run_folder.export(tmp_path, weights)
    read = run_folder.read_weights(tmp_path, weights)
    jax.tree.map(np.testing.assert_array_equal, read, weights)
    assert jax.tree.map(np.shape, read) == jax.tree.map(np.shape, weights)


def test_weights_travel_as_safetensors(tmp_path):
    weights = {"params": {"net": {"w": jnp.arange(6.0).reshape(2, 3).T}}, "stats": {}}
    run_folder.export(tmp_path, weights)
    shapes = jax.eval_shape(lambda: weights)
    np.testing.assert_array_equal(
        run_folder.read_weights(tmp_path, shapes)["params"]["net"]["w"],
        weights["params"]["net"]["w"],
    )
    with pytest.raises(InputError, match=r"params/net/w is \[3, 2\], the model's is \[5\]"):
        run_folder.read_weights(
            tmp_path, jax.eval_shape(lambda: {"params": {"net": {"w": jnp.zeros(5)}}, "stats": {}})
        )
    with pytest.raises(InputError, match="holds no params/net/v"):
        run_folder.read_weights(
            tmp_path, jax.eval_shape(lambda: {"params": {"net": {"v": jnp.zeros(5)}}, "stats": {}})
        )


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"\xff" * 8 + b"{}", (10**12).to_bytes(8, "little") + b"{}"]
)
def test_hostile_weights_are_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="safetensors"):
        run_folder.read_weights(tmp_path, {})


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model": 3, "config": {}}', b"\xff\xfe"])
def test_hostile_settings_are_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        run_folder.read_config(tmp_path)


def test_weights_are_transferred_where_names_and_shapes_fit(tmp_path):
    state = lambda width, value: core.new_state(
        {"enc": {"a": jnp.full((2, width), value), "b": jnp.full(3, value)}},
        {},
        ema={"enc": {"a": jnp.zeros((2, width)), "b": jnp.zeros(3)}},
    )
    run_folder.export(tmp_path, core.weights(state(4, 1.0).replace(ema={})))
    new, own = run_folder.transferred(state(5, 2.0), tmp_path)
    assert own == ["params/enc/a"]
    assert np.all(new.params["enc"]["a"] == 2)
    assert np.all(new.params["enc"]["b"] == 1)
    assert np.all(new.ema["enc"]["b"] == 1)
    with pytest.raises(InputError, match="none of its weights fit"):
        run_folder.transferred(core.new_state({"dec": {"a": jnp.zeros(3)}}, {}), tmp_path)
