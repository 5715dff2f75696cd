"""Render the suite's JSON lines: the tables of RESULTS.md and README.md, and what
changed between two files."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

Cell = Callable[[dict], str]


def number(value: float | None, digits: int = 3) -> str:
    """Format with this many significant digits and thousands separators."""
    if value is None:
        return ""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:g}"


def of(name: str, digits: int = 3) -> Cell:
    """A cell with a field of the row: numbers rounded, other values as they are."""
    return lambda row: (
        number(row[name], digits)
        if isinstance(row.get(name), int | float)
        else str(row.get(name) or "")
    )


def ratio(row: dict) -> str:
    """The median ratio and its quartiles."""
    if not row.get("ratio_spread"):
        return ""
    low, high = row["ratio_spread"]
    return f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"


def share(row: dict) -> str:
    """The share of the matmul peak in per cent."""
    return f"{100 * row['share_of_peak']:.0f} %" if row.get("share_of_peak") else ""


def sent(row: dict) -> str:
    """Number and bytes of the collectives, by kind."""
    return ", ".join(
        f"{traffic['count']} {kind}, {traffic['bytes'] / 1e6:.3g} MB"
        for kind, traffic in row.get("collectives", {}).items()
    )


def predicted(row: dict) -> str:
    """The predicted efficiencies of each system."""
    if row["devices"] == 1 or "predicted" not in row:
        return ""
    return "; ".join(
        f"{name}: {both['global']:.2f}, {both['each']:.2f}"
        for name, both in row["predicted"].items()
    )


def spread(row: dict) -> str:
    """The metrics' values, with their spread over draws."""
    values, spreads = row["values"], row.get("spread", {})
    names = [name for name in values if not name.endswith("_std")]
    return ", ".join(
        f"{name} {number(values[name])}"
        + (f" ± {number(spreads[name], 2)}" if name in spreads else "")
        for name in names
    )


def mean(name: str) -> Cell:
    """A cell with a ratio of one convolution, or the geometric mean over all."""
    return lambda row: (
        f"{value:.2f}"
        if (value := row.get(name) or row.get("geometric_means", {}).get(name))
        else ""
    )


def count(name: str) -> Cell:
    """A cell with a count; 0 is shown."""
    return lambda row: str(row.get(name, ""))


def fits(row: dict) -> str:
    """Memory per device and its share of the chip's, or why it does not compile."""
    if not row["compiles"]:
        return f"**does not compile: {row['reason']}**"
    return f"{number(row['memory_mb'])} ({100 * row['memory_share']:.0f} %)"


def percent(name: str) -> Cell:
    """A cell with a share in per cent."""
    return lambda row: f"{100 * row[name]:.1f} %" if row.get(name) is not None else ""


# The outcomes that fuzz.py counts as faults.
FAULTS = ("traceback", "hang", "memory", "silent", "execution", "overwrite", "lost")
case: Cell = lambda row: f"{row['model']} {row['config']}"
TABLES: dict[str, dict[str, Cell]] = {
    "step": {
        "model": case,
        "dtype": of("dtype"),
        "batch": of("batch_size"),
        "peer": of("peer"),
        "ours, ms": of("ms_per_step"),
        "peer, ms": of("peer_ms_per_step"),
        "peer's time over ours (quartiles)": ratio,
        "compile, s": of("compile_sec"),
        "memory, MB": of("peak_mb"),
        "GFLOP": of("gflop"),
        "of the matmul peak": share,
    },
    "sample": {
        "model": case,
        "verb": of("verb"),
        "dtype": of("dtype"),
        "batch": of("batch_size"),
        "ours, images/s": of("images_per_sec"),
        "peer's, images/s": of("peer_images_per_sec"),
        "peer's time over ours (quartiles)": ratio,
        "first batch after, s": of("first_image_sec"),
    },
    "ops": {
        "shape": lambda row: row.get("name") or f"**geometric mean of {row['shapes']}**",
        "XLA, forward": mean("xla_forward_ratio"),
        "ours, forward": mean("forward_ratio"),
        "XLA, with gradients": mean("xla_ratio"),
        "ours, with gradients": mean("ratio"),
    },
    "input": {
        "what": of("what"),
        "images/s": of("images_per_sec"),
        "seconds": of("seconds"),
        "waiting for data, share of a step": of("waiting"),
        "slowdown against resident": of("slower"),
        "resident memory, MB": of("rss_mb"),
    },
    "scaling": {
        "model": case,
        "global batch": of("batch_size"),
        "devices": of("devices"),
        "processes": of("processes"),
        "largest relative difference of a metric": of("loss_difference", 2),
        "collectives per step": sent,
        "PREDICTED efficiency: same global batch, same batch per device": predicted,
    },
    "metrics": {
        "network": of("network"),
        "protocol": of("protocol"),
        "batch": of("batch_size"),
        "ours, images/s": of("images_per_sec"),
        "peer's, images/s": of("peer_images_per_sec"),
        "peer's time over ours (quartiles)": ratio,
    },
    "distances": {
        "metric": of("metric"),
        "images": of("images", 6),
        "features": of("size", 6),
        "seconds": of("seconds"),
        "CPU seconds": of("cpu_seconds"),
        "memory, MB": of("peak_mb"),
    },
    "fuzz": {
        "what": of("what"),
        **{name: count(name) for name in ("cases", "refused", "same", "other", *FAULTS)},
    },
    "kills": {
        "command": of("what"),
        "kills": count("kills"),
        "rounds": count("rounds"),
        "lost": count("lost"),
    },
    "targets": {
        "model": lambda row: f"{case(row)} {row['options']}".strip(),
        "dtype": of("dtype"),
        "global batch": of("batch_size", 6),
        "CPU s to compile": of("compile_cpu_sec"),
        "memory per device, MB": fits,
        "GFLOP per device": of("gflop"),
        "of them bfloat16": percent("bf16_share"),
        "GB accessed": of("accessed_gb"),
        "by moves that stand alone": percent("moves_share"),
        "padding": of("padding"),
        "collectives, MB": of("collectives_mb"),
        "roofline, ms": of("roofline_ms"),
        "ESTIMATE, ms": of("estimate_ms"),
        "ESTIMATED images/s": of("estimated_images_per_sec"),
    },
    "quality": {
        "run": of("run"),
        "real": of("real"),
        "images": of("fake_count", 6),
        "extractor": of("extractor"),
        "protocol": of("protocol"),
        "values": spread,
    },
}
# README.md has one table: the training steps against eager PyTorch, without details.
README = ("step",)
BRIEF = ("model", "batch", "ours, ms", "peer, ms", "peer's time over ours (quartiles)")
MODELS = ("vae", "gan", "dcgan", "cyclegan", "stylegan2")


def read(path: Path) -> list[dict]:
    """Read a file of JSON lines; [] if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(row: dict) -> tuple:
    """What identifies a row in two files."""
    return row["part"], row["command"], row["line"]


def keep(path: Path, rows: list[dict]) -> None:
    """Add rows to a file, replacing those of the same command on the same device."""
    replaced = {(row["command"], row.get("device")) for row in rows}
    retained = [row for row in read(path) if (row["command"], row.get("device")) not in replaced]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{json.dumps(row)}\n" for row in [*retained, *rows]))
    os.replace(partial, path)


def place(row: dict) -> tuple:
    """Sort key of a model's row, whatever its date; other rows keep their order."""
    model = row.get("model")
    if model not in MODELS:
        return ()
    return (MODELS.index(model), *(row.get(name, "") for name in ("config", "dtype", "peer")))


def table(part: str, rows: list[dict], columns: Sequence[str] = ()) -> str:
    """A table in Markdown, without the columns that are empty in all rows.

    Only these columns, if any are given.
    """
    chosen = {name: cell for name, cell in TABLES[part].items() if not columns or name in columns}
    cells = {heading: [cell(row) for row in rows] for heading, cell in chosen.items()}
    cells = {heading: column for heading, column in cells.items() if any(column)}
    lines = [f"| {' | '.join(cells)} |", f"|{' --- |' * len(cells)}"]
    lines += [f"| {' | '.join(line)} |" for line in zip(*cells.values(), strict=True)]
    return "\n".join(lines)


def render(
    rows: list[dict],
    parts: tuple[str, ...] = tuple(TABLES),
    commands: bool = False,
    columns: Sequence[str] = (),
) -> str:
    """The tables of these parts, one per machine, each with its device, versions and
    date.

    With `commands`, each table is followed by the commands that made it; with
    `columns`, it has only these.
    """
    texts = []
    for part in parts:
        chosen = [row for row in rows if row["part"] == part]
        for device in dict.fromkeys(row.get("device", "") for row in chosen):
            here = sorted((row for row in chosen if row.get("device", "") == device), key=place)
            texts += [facts(part, device, here), table(part, here, columns)]
            texts += [listed(here)] if commands else []
    return "\n\n".join(texts)


def facts(part: str, device: str, rows: list[dict]) -> str:
    """One line: the device, the versions, the dates, the commits and the load."""
    dates, commits = (sorted({row[name] for row in rows}) for name in ("date", "commit"))
    versions = {name: version for row in rows for name, version in row.get("versions", {}).items()}
    named = {"Python": rows[0]["python"], **versions}
    software = ", ".join(f"{name} {version}" for name, version in named.items())
    when = f"{dates[0]} to {dates[-1]}" if dates[1:] else dates[0]
    busiest = max((row.get("load", 0) for row in rows), default=0)
    load = f"; load average up to {busiest:.1f}" if busiest else ""
    machine = device or "machine not named"
    return f"*{part}*: {machine}; {software}; {when}, {', '.join(commits)}{load}."


def listed(rows: list[dict]) -> str:
    """A code block of the commands, those of training first."""
    commands = [row[name] for name in ("training", "command") for row in rows if name in row]
    return "\n".join(["```sh", *dict.fromkeys(commands), "```"])


def write(rows: list[dict], root: Path) -> list[Path]:
    """Write the tables into RESULTS.md and README.md; return the paths.

    Each goes between the marks <!-- PART --> and <!-- /PART -->.

    Raises:
        ValueError: a mark is missing
    """
    written = []
    results = root / "benchmarks" / "RESULTS.md"
    for path, parts in ((results, tuple(TABLES)), (root / "README.md", README)):
        text, full = path.read_text(), path == results
        shown = rows if full else [row for row in rows if row.get("peer") in (None, "torch")]
        for part in parts:
            block = render(shown, (part,), commands=full, columns=() if full else BRIEF)
            start, end = f"<!-- {part} -->", f"<!-- /{part} -->"
            before, opened, rest = text.partition(start)
            _, closed, after = rest.partition(end)
            if not (opened and closed):
                raise ValueError(f"{path}: no {start} ... {end}")
            text = f"{before}{start}\n\n{block}\n\n{end}{after}"
        path.write_text(text)
        written.append(path)
    return written


def figure(row: dict) -> tuple[str, float] | None:
    """Name and value of the figure that a row is compared by; None if it has none.

    On a CPU that is the ratio to the peer: absolute speed depends on the machine's
    load.
    """
    names = ["ratio", "images_per_sec"]
    if not row.get("device", "cpu").startswith("cpu"):
        names.reverse()
    others = ("cpu_seconds", "loss_difference", "estimated_images_per_sec", "accessed_gb")
    present = (name for name in (*names, *others) if row.get(name))
    name = next(present, None)
    return (name, row[name]) if name else None


def compared(old: list[dict], new: list[dict]) -> str:
    """A table of the rows in both files that marks those that changed.

    Ratios changed if their quartiles do not overlap, other figures if they differ by
    more than a tenth.
    """
    rows_before = {key(row): row for row in old}
    lines = ["| command | figure | before | now | |", "| --- | --- | --- | --- | --- |"]
    for row in new:
        earlier = rows_before.get(key(row), {})
        now, before = figure(row), figure(earlier)
        if not now or not before or now[0] != before[0]:
            continue
        if "ratio_spread" in row and now[0] == "ratio":
            (low, high), (was_low, was_high) = row["ratio_spread"], earlier["ratio_spread"]
            changed = low > was_high or high < was_low
        else:
            changed = abs(now[1] / before[1] - 1) > 0.1
        note = f"**{now[1] / before[1]:.2f} times**" if changed else ""
        cells = (now[0], number(before[1]), number(now[1]), note)
        lines.append(f"| `{row['command']}` {row['line']} | {' | '.join(cells)} |")
    return "\n".join(lines)
