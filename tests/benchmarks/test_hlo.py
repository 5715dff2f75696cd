"""Reading a compiled program: operations, moves, padding and collectives."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import hlo

# What a TPU's compiler writes: a convolution inside of a fusion that a loop runs 5 times, a
# copy and a fusion of moves alone, and collectives in their asynchronous form.
TPU = """
HloModule jit_f, is_scheduled=true

%fused_computation (p0: bf16[8,64,64,3], p1: f32[3,3,3,16]) -> bf16[8,64,64,16] {
  %p0 = bf16[8,64,64,3]{2,1,0,3:T(8,128)(2,1)} parameter(0)
  %p1 = f32[3,3,3,16]{3,2,1,0:T(4,128)} parameter(1)
  ROOT %conv.1 = bf16[8,64,64,16]{3,2,1,0:T(8,128)(2,1)} convolution(%p0, %p1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, metadata={op_name="jit(f)/a/b/conv"}
}

%moves (p: f32[100,20]) -> f32[20,104] {
  %p = f32[100,20]{1,0} parameter(0)
  %t = f32[20,100]{1,0} transpose(%p), dimensions={1,0}
  %c = f32[] constant(0)
  ROOT %pad = f32[20,104]{1,0} pad(%t, %c), padding=0_0x0_4
}

%body (arg: (s32[], bf16[8,64,64,3], f32[3,3,3,16])) -> (s32[], bf16[8,64,64,3], f32[3,3,3,16]) {
  %arg = (s32[], bf16[8,64,64,3]{3,2,1,0}, f32[3,3,3,16]{3,2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = bf16[8,64,64,3]{3,2,1,0} get-tuple-element(%arg), index=1
  %k = f32[3,3,3,16]{3,2,1,0} get-tuple-element(%arg), index=2
  %fusion.7 = bf16[8,64,64,16]{3,2,1,0:T(8,128)(2,1)} fusion(%x, %k), kind=kOutput, calls=%fused_computation
  %ag = (f32[4,2]{1,0}, f32[16,2]{1,0}) all-gather-start(%k), dimensions={0}
  ROOT %out = (s32[], bf16[8,64,64,3]{3,2,1,0}, f32[3,3,3,16]{3,2,1,0}) tuple(%i, %x, %k)
}

ENTRY %main (a: f32[100,20], b: (s32[], bf16[8,64,64,3], f32[3,3,3,16])) -> f32[20,104] {
  %a = f32[100,20]{1,0} parameter(0)
  %b = (s32[], bf16[8,64,64,3]{3,2,1,0}, f32[3,3,3,16]{3,2,1,0}) parameter(1)
  %copy.1 = f32[100,20]{0,1} copy(%a)
  %w = (s32[], bf16[8,64,64,3]{3,2,1,0}, f32[3,3,3,16]{3,2,1,0}) while(%b), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %ar = f32[10]{0} all-reduce-start(%a), to_apply=%add
  ROOT %f = f32[20,104]{1,0} fusion(%copy.1), kind=kLoop, calls=%moves
}
"""


def test_a_fused_convolution_counts_as_often_as_it_runs():
    ((dtype, operations, instruction),) = hlo.Program(TPU).products()
    inside = (3 * 64 - 2) ** 2  # positions of the kernel in the image, without the padding
    assert (dtype, operations) == ("f32", 5 * 2 * 8 * inside * 3 * 16)
    assert 'op_name="jit(f)/a/b/conv"' in instruction.attributes


def test_moves_that_stand_alone_are_found_and_others_are_not():
    moves = [(kind, size) for kind, size, _ in hlo.Program(TPU).moves()]
    assert moves == [("copy", 4 * 2 * 2000), ("transpose", 4 * (2000 + 20 * 104))]


def test_bytes_of_asynchronous_collectives_are_those_of_their_results():
    assert hlo.Program(TPU).collectives() == {
        "all-gather": {"count": 5, "bytes": 5 * 4 * 32},
        "all-reduce": {"count": 1, "bytes": 40},
    }


def test_memory_is_padded_to_tiles_of_the_two_minor_dimensions():
    assert (
        hlo.Shape("bf16", (8, 64, 64, 3), "3,2,1,0:T(8,128)(2,1)").padded_bytes
        == 2 * 8 * 64 * 64 * 128
    )
    assert (
        hlo.Shape("bf16", (8, 64, 64, 3), "2,1,0,3:T(8,128)(2,1)").padded_bytes
        == 2 * 8 * 64 * 128 * 3
    )
    assert hlo.Shape("f32", (5,), "0:T(128)").padded_bytes == 4 * 128
    assert hlo.Shape("f32", (5, 7)).padded_bytes == 4 * 35


@pytest.mark.parametrize(
    ("strides", "padding", "dilation"),
    [
        ((1, 1), "SAME", (1, 1)),
        ((2, 2), [(1, 2), (0, 1)], (1, 1)),
        ((1, 1), [(2, 1), (1, 2)], (2, 2)),
    ],
)
def test_operations_are_those_that_meet_an_input(strides, padding, dilation):
    """Counted by convolving ones: each product adds 1 to the result."""
    x, kernel = jnp.ones((2, 6, 5, 3)), jnp.ones((3, 3, 3, 4))

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    text = jax.jit(conv).lower(x, kernel).as_text("hlo")
    ((_, operations, _),) = hlo.Program(text).products()
    assert operations == 2 * np.sum(conv(x, kernel))


def test_operations_of_products_and_of_groups():
    x, y = jnp.ones((4, 6, 8)), jnp.ones((4, 8, 5))
    text = jax.jit(lambda x, y: jnp.einsum("bij,bjk->bik", x, y)).lower(x, y).as_text("hlo")
    assert sum(count for _, count, _ in hlo.Program(text).products()) == 2 * 4 * 6 * 8 * 5
    x, kernel = jnp.ones((2, 6, 6, 8)), jnp.ones((1, 1, 2, 12))
    grouped = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    text = jax.jit(grouped).lower(x, kernel).as_text("hlo")
    assert sum(count for _, count, _ in hlo.Program(text).products()) == 2 * 2 * 36 * 2 * 12


def test_bytes_of_collectives_in_loops_count_as_often_as_they_run():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))

    def sums(x):
        """Five sums over the devices, each of the result of the last: 5 x 3 float32."""
        step = lambda total, _: (total + jnp.sum(jnp.sin(x * total[None]), axis=0), None)
        return jax.lax.scan(step, jnp.ones(3), length=5)[0]

    x = jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=split)
    text = jax.jit(sums, out_shardings=everywhere).lower(x).compile().as_text()
    traffic = hlo.Program(text or "").collectives()
    assert traffic == {"all-reduce": {"count": 5, "bytes": 60}}
    assert json.loads(json.dumps(traffic)) == traffic
