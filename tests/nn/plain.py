"""Plain definitions of convolutions and FIR resampling, and comparison with them."""

import jax
import jax.numpy as jnp
import numpy as np


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def loop_down(x, kernel):
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    n, height, width, _ = x.shape
    y = np.zeros((n, -(-height // 2), -(-width // 2), kernel.shape[3]))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            for a in range(k):
                for b in range(k):
                    row, column = 2 * i + a - low, 2 * j + b - low
                    if 0 <= row < height and 0 <= column < width:
                        y[:, i, j] += x[:, row, column] @ kernel[a, b]
    return y


def loop_up(x, kernel, size):
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    y = np.zeros((x.shape[0], *size, kernel.shape[3]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for a in range(k):
                for b in range(k):
                    row, column = 2 * i + a - low, 2 * j + b - low
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        y[:, row, column] += x[:, i, j] @ kernel[a, b]
    return y


def plain_down(x, kernel):
    """XLA's convolution at stride 2, low padding (k - 1) // 2, size ceil(size / 2)."""
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    pads = [(low, max(2 * (-(-size // 2) - 1) + k - size - low, 0)) for size in x.shape[1:3]]
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def plain_conv(x, kernel, pad=None, groups=1):
    pads = "SAME" if pad is None else [(pad, pad)] * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def plain_fir(x, taps, up=1, down=1, pads=(0, 0), gain=1.0):
    """Definition of upfirdn: insert zeros, pad, filter, keep every `down`-th."""
    taps = jnp.asarray(taps, x.dtype) / sum(taps)
    filters = jnp.broadcast_to(
        (gain * jnp.outer(taps, taps))[:, :, None, None], (len(taps), len(taps), 1, x.shape[3])
    )
    pads = (pads[0], pads[1] + up - 1)  # zeros follow the last pixel too
    return jax.lax.conv_general_dilated(
        x,
        filters,
        (down, down),
        [pads, pads],
        lhs_dilation=(up, up),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


def plain_up_fir(x, kernel, taps):
    k, length = kernel.shape[0], len(taps)
    full = jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        [(k - 1, k - 1)] * 2,
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    reach = (length - 2) - (k - 1)
    return plain_fir(full, taps, pads=((reach + 1) // 2 + 1, reach // 2 + 1), gain=4)


def plain_fir_down(x, kernel, taps):
    reach = (len(taps) - 2) + (kernel.shape[0] - 1)
    x = plain_fir(x, taps, pads=((reach + 1) // 2, reach // 2))
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def assert_same(ours, plain, tolerance=1e-3):
    assert ours.shape == plain.shape
    np.testing.assert_allclose(
        ours, plain, rtol=tolerance, atol=tolerance * max(1e-3, float(jnp.max(jnp.abs(plain))))
    )


def to_second_order(f, *arguments):
    """Value, and first and second gradients of a sum of sines, compiled once."""
    argnums = tuple(range(len(arguments)))
    first = jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), argnums=argnums)
    second = jax.grad(lambda *a: sum(jnp.sum(jnp.square(g)) for g in first(*a)), argnums=argnums)
    return jax.jit(lambda *a: (f(*a), first(*a), second(*a)))(*arguments)


def assert_same_to_second_order(ours, plain, *arguments):
    """Compare values and first and second gradients."""
    (got, *slopes), (want, *plain_slopes) = (to_second_order(f, *arguments) for f in (ours, plain))
    assert_same(got, want, 1e-4)
    for got, want in zip(jax.tree.leaves(slopes), jax.tree.leaves(plain_slopes), strict=True):
        assert_same(got, want)
