"""Time of each convolution of genjax.nn.ops, against plain XLA and PyTorch.

    python benchmarks/ops.py [--only PATTERN] [--dtype float32|bfloat16]
                             [--peer torch|none] [--seconds S] [--rounds N]
                             [--dispatch many|one]

Prints one JSON line per shape, and one with geometric means. PATTERN is a regular
expression matched against the names in SHAPES. Every shape is timed forward, and
forward with the gradients to image and kernel. The three sides take turns in one
process, each for `--seconds` per round. Ours runs as the trainer runs a step, many
times per dispatch, one after another (`--dispatch one`: once per dispatch). Plain XLA
runs once per dispatch, because inside a loop its gradients are up to 100 times slower
on a CPU. PyTorch runs eagerly on the same device, in the memory layout (contiguous or
channels last, with inputs and gradient converted beforehand) and on one or all cores,
whichever is faster, chosen separately for forward and both. FIR filters are depthwise
convolutions in PyTorch, the form that needs no custom kernels.

    forward, both          medians of the rounds in ms: ours, xla, torch
    forward_ratio, ratio   PyTorch's time over ours (peer "none": plain XLA's over ours),
                           per round: median
    xla_forward_ratio, xla_ratio   PyTorch's time over plain XLA's
    torch                  PyTorch's fastest layout and number of threads: forward, both
    gflops                 of ours, both, by the multiplications and additions of the
                           definition
    compile_sec            time to trace and compile forward with gradients: ours, xla
"""

import argparse
import math
import os
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from step_time import SEED, Run, calibrate, device_name, fastest, say, seconds, show

from genjax import target
from genjax.nn import ops
from genjax.runtime import memory, xla

TAPS = (1, 3, 3, 1)


class Shape(NamedTuple):
    """`op` on [batch, size, size, channels] with a square `kernel` to `features`.

    `extra` is the padding of conv (None: "same"), or the groups of grouped_conv.
    """

    op: str
    batch: int
    size: int
    channels: int
    features: int
    kernel: int
    extra: int | None = None


SHAPES = {
    # DCGAN at 64x64 and at 32x32
    "dcgan64/down1": Shape("down_conv", 64, 64, 3, 64, 4),
    "dcgan64/down2": Shape("down_conv", 64, 32, 64, 128, 4),
    "dcgan64/down3": Shape("down_conv", 64, 16, 128, 256, 4),
    "dcgan64/down4": Shape("down_conv", 64, 8, 256, 512, 4),
    "dcgan64/up1": Shape("up_conv", 64, 4, 512, 256, 4),
    "dcgan64/up2": Shape("up_conv", 64, 8, 256, 128, 4),
    "dcgan64/up3": Shape("up_conv", 64, 16, 128, 64, 4),
    "dcgan64/up4": Shape("up_conv", 64, 32, 64, 3, 4),
    "dcgan32/down1": Shape("down_conv", 64, 32, 3, 64, 4),
    "dcgan32/down2": Shape("down_conv", 64, 16, 64, 128, 4),
    "dcgan32/up2": Shape("up_conv", 64, 8, 128, 64, 4),
    "dcgan32/up3": Shape("up_conv", 64, 16, 64, 3, 4),
    # CycleGAN at 128x128: the generator, already padded by reflection, and the PatchGAN
    "cyclegan/first": Shape("conv", 1, 134, 3, 64, 7, 0),
    "cyclegan/down1": Shape("down_conv", 1, 128, 64, 128, 3),
    "cyclegan/down2": Shape("down_conv", 1, 64, 128, 256, 3),
    "cyclegan/residual": Shape("conv", 1, 34, 256, 256, 3, 0),
    "cyclegan/up1": Shape("up_conv", 1, 32, 256, 128, 3),
    "cyclegan/up2": Shape("up_conv", 1, 64, 128, 64, 3),
    "cyclegan/last": Shape("conv", 1, 134, 64, 3, 7, 0),
    "cyclegan/patch1": Shape("down_conv", 1, 128, 3, 64, 4),
    "cyclegan/patch3": Shape("down_conv", 1, 32, 128, 256, 4),
    "cyclegan/patch4": Shape("conv", 1, 16, 256, 512, 4, 1),
    "cyclegan/patch5": Shape("conv", 1, 15, 512, 1, 4, 1),
    # StyleGAN2 at 64x64, channel_base 8192
    "stylegan2/conv4": Shape("conv", 8, 4, 512, 512, 3),
    "stylegan2/conv8": Shape("conv", 8, 8, 512, 512, 3),
    "stylegan2/conv16": Shape("conv", 8, 16, 512, 512, 3),
    "stylegan2/conv32": Shape("conv", 8, 32, 256, 256, 3),
    "stylegan2/conv64": Shape("conv", 8, 64, 128, 128, 3),
    "stylegan2/up8": Shape("up_conv_fir", 8, 4, 512, 512, 3),
    "stylegan2/up32": Shape("up_conv_fir", 8, 16, 512, 256, 3),
    "stylegan2/up64": Shape("up_conv_fir", 8, 32, 256, 128, 3),
    "stylegan2/down64": Shape("fir_down_conv", 8, 64, 128, 256, 3),
    "stylegan2/down32": Shape("fir_down_conv", 8, 32, 256, 512, 3),
    "stylegan2/skip64": Shape("skip", 8, 64, 128, 256, 1),
    "stylegan2/rgb64": Shape("conv", 8, 64, 128, 3, 1, 0),
    # R3GAN's grouped convolutions, outside the geometric means
    "r3gan/grouped16": Shape("grouped_conv", 8, 16, 768, 768, 3, 48),
    "r3gan/grouped32": Shape("grouped_conv", 4, 32, 384, 384, 3, 24),
}
Function = Callable[..., jax.Array]


def ours(shape: Shape) -> Function:
    """The operation of genjax.nn.ops: (image NHWC, kernel HWIO) -> image."""
    match shape.op:
        case "conv" | "grouped_conv":
            return lambda x, kernel: getattr(ops, shape.op)(x, kernel, shape.extra)
        case "up_conv_fir" | "fir_down_conv":
            return lambda x, kernel: getattr(ops, shape.op)(x, kernel, TAPS)
        case "skip":
            return lambda x, kernel: ops.conv(ops.downsample(x, TAPS), kernel)
        case _:
            return getattr(ops, shape.op)


def plain_xla(shape: Shape) -> Function:
    """The direct form in jax.lax, with gradients by autodiff."""
    k = shape.kernel

    def conv(x, kernel, stride=1, pads: tuple[int, int] = (0, 0), dilation=1, groups=1):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [pads, pads],
            lhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def fir(x, stride, pads, gain=1):
        channels = x.shape[3]
        taps = np.outer(TAPS, TAPS)[:, :, None, None] * (gain / sum(TAPS) ** 2)
        kernel = jnp.broadcast_to(jnp.asarray(taps, x.dtype), (4, 4, 1, channels))
        return conv(x, kernel, stride, pads, groups=channels)

    low = (k - 1) // 2
    match shape.op:
        case "conv" | "grouped_conv":
            grouped = shape.op == "grouped_conv"
            pads, groups = (low, k - 1 - low), 1
            if grouped:
                groups = shape.extra or 1
            elif shape.extra is not None:
                pads = (shape.extra, shape.extra)
            return lambda x, kernel: conv(x, kernel, 1, pads, groups=groups)
        case "down_conv":
            return lambda x, kernel: conv(x, kernel, 2, (low, k - 2 - low))
        case "up_conv":
            return lambda x, kernel: conv(x, kernel[::-1, ::-1], 1, (k - 1 - low, 1 + low), 2)
        case "up_conv_fir":
            return lambda x, kernel: fir(
                conv(x, kernel[::-1, ::-1], 1, (k - 1, k - 1), 2), 1, (1, 1), 4
            )
        case "fir_down_conv":
            return lambda x, kernel: conv(fir(x, 1, (2, 2)), kernel, 2)
        case _:
            return lambda x, kernel: conv(fir(x, 2, (1, 1)), kernel)


def torch_form(shape: Shape, like: Any) -> Callable[..., Any]:
    """The operation in PyTorch, on tensors of `like`'s dtype and device."""
    import torch
    from torch.nn import functional

    low = (shape.kernel - 1) // 2
    channels = shape.features if shape.op == "up_conv_fir" else shape.channels
    taps = torch.outer(torch.tensor(TAPS), torch.tensor(TAPS)) / sum(TAPS) ** 2
    filters = taps.to(like).expand(channels, 1, 4, 4).contiguous()
    up_filters = 4 * filters
    match shape.op:
        case "conv":
            pad = low if shape.extra is None else shape.extra
            return lambda x, kernel: functional.conv2d(x, kernel, padding=pad)
        case "grouped_conv":
            groups = shape.extra or 1
            return lambda x, kernel: functional.conv2d(x, kernel, padding=low, groups=groups)
        case "down_conv":
            return lambda x, kernel: functional.conv2d(x, kernel, stride=2, padding=low)
        case "up_conv":
            odd = shape.kernel % 2
            return lambda x, kernel: functional.conv_transpose2d(
                x, kernel, stride=2, padding=low, output_padding=odd
            )
        case "up_conv_fir":
            return lambda x, kernel: functional.conv2d(
                functional.conv_transpose2d(x, kernel, stride=2),
                up_filters,
                padding=1,
                groups=channels,
            )
        case "fir_down_conv":
            return lambda x, kernel: functional.conv2d(
                functional.conv2d(x, filters, padding=2, groups=channels), kernel, stride=2
            )
        case _:
            return lambda x, kernel: functional.conv2d(
                functional.conv2d(x, filters, stride=2, padding=1, groups=channels), kernel
            )


def main() -> None:
    """Race the chosen shapes and print their JSON lines."""
    parser = argparse.ArgumentParser(
        description="Time of each convolution of genjax.nn.ops, against plain XLA and PyTorch."
    )
    option = parser.add_argument
    option("--only", default="", metavar="PATTERN", help="regular expression of the names")
    option("--dtype", choices=("float32", "bfloat16"), default="float32")
    option("--peer", choices=("torch", "none"), default="torch")
    option("--dispatch", choices=("many", "one"), default="many", help="runs of ours per dispatch")
    option("--seconds", type=float, default=0.4, help="seconds of each side per round")
    option("--rounds", type=int, default=5)
    args = parser.parse_args()
    chosen = {name: shape for name, shape in SHAPES.items() if re.search(args.only, name)}
    if not chosen:
        parser.error(f"--only {args.only}: matches none of {', '.join(SHAPES)}")
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("--rounds must be at least 1, --seconds above 0")
    jax.config.update("jax_enable_compilation_cache", False)  # or compile_sec would be 0
    memory.keep_freed()  # for all sides, as the scripts do
    rows = []
    for name, shape in chosen.items():
        rows.append(measure(name, shape, args))
        emit(rows[-1])
    listed = [row for row in rows if not row["name"].startswith("r3gan")]
    means = {
        key: geometric_mean([row[key] for row in listed if row.get(key)])
        for key in rows[0]
        if key.endswith("ratio")
    }
    emit({"shapes": len(listed), "geometric_means": means, "load": os.getloadavg()[0]})


def measure(name: str, shape: Shape, args: argparse.Namespace) -> dict:
    """Check that all sides compute the same, race them, and return the row."""
    groups = (shape.extra or 1) if shape.op == "grouped_conv" else 1
    kernel = (shape.kernel, shape.kernel, shape.channels // groups, shape.features)
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(shape.batch, shape.size, shape.size, shape.channels)).astype(np.float32)
    w = rng.normal(size=kernel).astype(np.float32) / math.sqrt(np.prod(kernel[:3]))
    forms = {"ours": ours(shape), "xla": plain_xla(shape)}
    with jax.default_matmul_precision("highest"):  # a GPU's TF32 is too coarse to compare with
        values = [np.asarray(jax.jit(form)(x, w)) for form in forms.values()]
    g = rng.normal(size=values[0].shape).astype(np.float32)
    row: dict = {"name": name, **shape._asdict(), "dtype": args.dtype}
    arguments = [jnp.asarray(a, args.dtype) for a in (x, w, g)]
    sides = {
        side: jax_runs(form, arguments, side == "ours" and args.dispatch == "many")
        for side, form in forms.items()
    }
    row["compile_sec"] = {side: took for side, (_, took) in sides.items()}
    runs = {side: runs for side, (runs, _) in sides.items()}
    if args.peer == "torch":
        runs["torch"], row["torch"], value = torch_runs(shape, x, w, g, args.dtype)
        values.append(value)
    for side, value in zip([*runs][1:], values[1:], strict=True):
        if not np.allclose(values[0], value, atol=1e-3):
            error = np.abs(values[0] - value).max()
            raise AssertionError(f"{name}: the result of {side} differs from ours by {error}")
    for mode in ("forward", "both"):
        counts = {side: calibrate(runs[side][mode], args.seconds) for side in runs}
        rounds = [
            {side: 1000 * seconds(runs[side][mode], n) / n for side, n in counts.items()}
            for _ in range(args.rounds)
        ]
        row[mode] = {side: statistics.median(ms[side] for ms in rounds) for side in runs}
        prefix = "forward_" if mode == "forward" else ""
        base = "torch" if "torch" in runs else "xla"
        row[f"{prefix}ratio"] = statistics.median(ms[base] / ms["ours"] for ms in rounds)
        if base == "torch":
            row[f"xla_{prefix}ratio"] = statistics.median(ms["torch"] / ms["xla"] for ms in rounds)
    pixels = shape.size if shape.op.startswith("up") else values[0].shape[1]
    row["gflops"] = 6 * shape.batch * pixels**2 * math.prod(kernel) / row["both"]["ours"] / 1e6
    return row


def jax_runs(
    form: Function, arguments: list[jax.Array], many: bool
) -> tuple[dict[str, Run], float]:
    """Runs of forward and of both, and the seconds to compile the latter.

    `many`: many times per dispatch, compiled as the trainer's steps are.
    """

    def both(x: jax.Array, w: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(form, x, w)
        return y, *pull(g)

    def repeated(f: Callable[..., Any], *inputs: jax.Array) -> tuple[Run, float]:
        def loop(count, inputs):
            def body(_, state):
                # Each iteration has to wait for all results of the one before.
                inputs, _ = jax.lax.optimization_barrier(state)
                return inputs, f(*inputs)

            outputs = jax.tree.map(
                lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(f, *inputs)
            )
            return jax.lax.fori_loop(0, count, body, (inputs, outputs))[1]

        began = time.perf_counter()
        if many:
            program = (
                jax.jit(loop).lower(1, inputs).compile(xla.options(target.platform(), *xla.STEP))
            )
        else:
            program = jax.jit(f).lower(*inputs).compile()
        compile_sec = time.perf_counter() - began

        def run(count: int) -> None:
            if many:
                jax.block_until_ready(program(count, inputs))
            else:
                for _ in range(count):
                    jax.block_until_ready(program(*inputs))

        return run, compile_sec

    x, w, g = arguments
    (forward, _), (with_gradients, took) = repeated(form, x, w), repeated(both, x, w, g)
    return {"forward": forward, "both": with_gradients}, took


def torch_runs(
    shape: Shape, x: np.ndarray, w: np.ndarray, g: np.ndarray, dtype: str
) -> tuple[dict[str, Run], dict[str, dict], np.ndarray]:
    """Runs of forward and of both; the layout and threads of each; and the value.

    The value is computed on the CPU in float32.
    """
    import torch

    torch.set_flush_denormal(True)  # as XLA does
    torch.backends.cudnn.benchmark = True
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    axes = (2, 3, 0, 1) if shape.op in ("up_conv", "up_conv_fir") else (3, 2, 0, 1)
    tensors = [
        torch.tensor(np.ascontiguousarray(a))
        for a in (x.transpose(0, 3, 1, 2), w.transpose(axes), g.transpose(0, 3, 1, 2))
    ]
    value = torch_form(shape, tensors[0])(*tensors[:2]).numpy().transpose(0, 2, 3, 1)
    tensors = [a.to(device, getattr(torch, dtype)) for a in tensors]
    form = torch_form(shape, tensors[0])

    def forward(image, kernel, _):
        with torch.no_grad():
            form(image, kernel)

    def both(image, kernel, cotangent):
        torch.autograd.grad(form(image, kernel), (image, kernel), cotangent)

    def raced(once: Callable[..., None]) -> tuple[Run, dict]:
        layouts = {}

        def in_layout(layout: torch.memory_format) -> dict[str, Run]:
            image, kernel, cotangent = (a.clone(memory_format=layout) for a in tensors)
            inputs = image.requires_grad_(), kernel.requires_grad_(), cotangent

            def run(count: int) -> None:
                for _ in range(count):
                    once(*inputs)
                if device == "cuda":
                    torch.cuda.synchronize()

            layouts[run] = layout
            return {"step": run}

        run = fastest(in_layout)["step"]
        threads = torch.get_num_threads()

        def threaded(count: int) -> None:
            torch.set_num_threads(threads)  # the other mode may use another number
            run(count)

        return threaded, {"layout": str(layouts[run]).removeprefix("torch."), "threads": threads}

    sides = {"forward": raced(forward), "both": raced(both)}
    return (
        {mode: run for mode, (run, _) in sides.items()},
        {mode: setting for mode, (_, setting) in sides.items()},
        value,
    )


def geometric_mean(values: list[float]) -> float:
    """The geometric mean; NaN of no values."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def emit(row: dict) -> None:
    """Print the row as a JSON line, and its times on standard error."""
    show(row | {"device": device_name()})
    if "both" in row:
        times = " ".join(f"{side} {ms:.2f}" for side, ms in row["both"].items())
        say(f"{row['name']}: {times} ms, ratio {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
