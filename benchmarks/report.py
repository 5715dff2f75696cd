"""What the suite's JSON lines look like to people: the tables of RESULTS.md and README.md, and what moved between two files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

Cell = Callable[[dict], str]


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits, thousands set apart."""
    if value is None:
        return ""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:g}"


def of(name: str, digits: int = 3) -> Cell:
    """A field: a number, or as it is."""
    return lambda row: (
        number(row[name], digits)
        if isinstance(row.get(name), int | float)
        else str(row.get(name) or "")
    )


def ratio(row: dict) -> str:
    if not row.get("ratio_spread"):
        return ""
    low, high = row["ratio_spread"]
    return f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"


def share(row: dict) -> str:
    return f"{100 * row['share_of_peak']:.0f} %" if row.get("share_of_peak") else ""


def sent(row: dict) -> str:
    return ", ".join(
        f"{found['count']} {kind}, {found['bytes'] / 1e6:.3g} MB"
        for kind, found in row.get("collectives", {}).items()
    )


def predicted(row: dict) -> str:
    if row["devices"] == 1 or "predicted" not in row:
        return ""
    return "; ".join(
        f"{name}: {both['global']:.2f}, {both['each']:.2f}"
        for name, both in row["predicted"].items()
    )


def spread(row: dict) -> str:
    values, around = row["values"], row.get("spread", {})
    shown = [name for name in values if not name.endswith("_std")]
    return ", ".join(
        f"{name} {number(values[name])}{f' ± {number(around[name], 2)}' if name in around else ''}"
        for name in shown
    )


def mean(name: str) -> Cell:
    """A ratio of a convolution, or of them all."""
    return lambda row: (
        f"{value:.2f}"
        if (value := row.get(name) or row.get("geometric_means", {}).get(name))
        else ""
    )


def count(name: str) -> Cell:
    """A whole number, 0 too."""
    return lambda row: str(row.get(name, ""))


FAULTS = ("traceback", "hang", "memory", "silent", "execution", "overwrite", "lost")  # of fuzz.py
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
        "waiting, share of a step": of("waiting"),
        "slower than resident by": of("slower"),
        "resident memory, MB": of("rss_mb"),
    },
    "scaling": {
        "model": case,
        "global batch": of("batch_size"),
        "devices": of("devices"),
        "processes": of("processes"),
        "largest difference of a metric": of("loss_difference", 2),
        "collectives a step": sent,
        "PREDICTED efficiency: global batch, so much a device": predicted,
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
    "quality": {
        "run": of("run"),
        "real": of("real"),
        "images": of("fake_count", 6),
        "extractor": of("extractor"),
        "protocol": of("protocol"),
        "values": spread,
    },
}
README = ("step", "sample")  # the tables that README.md has too
MODELS = ("vae", "gan", "dcgan", "cyclegan", "stylegan2")


def read(path: Path) -> list[dict]:
    """A file's lines; none of a file that is absent."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(row: dict) -> tuple:
    return row["part"], row["command"], row["line"]


def keep(path: Path, rows: list[dict]) -> None:
    """Write rows into a file. What their commands gave before on the same device gives way."""
    made = {(row["command"], row.get("device")) for row in rows}
    kept = [row for row in read(path) if (row["command"], row.get("device")) not in made]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{json.dumps(row)}\n" for row in [*kept, *rows]))
    os.replace(partial, path)


def place(row: dict) -> tuple:
    """Of a model's row in a table, whenever it was measured; others stay in the file's order."""
    if row.get("model") not in MODELS:
        return ()
    return (
        MODELS.index(row["model"]),
        row.get("config", ""),
        row.get("dtype", ""),
        row.get("peer", ""),
    )


def table(part: str, rows: list[dict]) -> str:
    """In Markdown, without columns that are empty throughout; below it the commands."""
    cells = {heading: [cell(row) for row in rows] for heading, cell in TABLES[part].items()}
    cells = {heading: column for heading, column in cells.items() if any(column)}
    lines = [f"| {' | '.join(cells)} |", f"|{' --- |' * len(cells)}"]
    lines += [f"| {' | '.join(line)} |" for line in zip(*cells.values(), strict=True)]
    return "\n".join(lines)


def render(rows: list[dict], parts: tuple[str, ...] = tuple(TABLES), commands: bool = False) -> str:
    """The tables of some parts, each machine's apart, with what they were measured on and when."""
    texts = []
    for part in parts:
        chosen = [row for row in rows if row["part"] == part]
        for device in dict.fromkeys(row.get("device", "") for row in chosen):
            own = sorted((row for row in chosen if row.get("device", "") == device), key=place)
            texts.append(
                "\n\n".join(
                    [
                        facts(part, device, own),
                        table(part, own),
                        *([listed(own)] if commands else []),
                    ]
                )
            )
    return "\n\n".join(texts)


def facts(part: str, device: str, rows: list[dict]) -> str:
    dates, commits = (sorted({row[name] for row in rows}) for name in ("date", "commit"))
    versions = {name: version for row in rows for name, version in row.get("versions", {}).items()}
    software = ", ".join(
        [
            f"Python {rows[0]['python']}",
            *(f"{name} {version}" for name, version in versions.items()),
        ]
    )
    busy = max((row.get("load", 0) for row in rows), default=0)
    idle = f"; load average up to {busy:.1f}" if busy else ""
    return f"*{part}*: {device or 'machine not named'}; {software}; {dates[0]}{f' to {dates[-1]}' if dates[1:] else ''}, {', '.join(commits)}{idle}."


def listed(rows: list[dict]) -> str:
    """The commands, those of a training first."""
    commands = [row[name] for name in ("training", "command") for row in rows if name in row]
    return "\n".join(["```sh", *dict.fromkeys(commands), "```"])


def write(rows: list[dict], root: Path) -> list[Path]:
    """Put the tables between the lines <!-- PART --> and <!-- /PART --> of RESULTS.md and README.md. Raises ValueError where a mark is missing."""
    written = []
    for path, parts in (
        (root / "benchmarks" / "RESULTS.md", tuple(TABLES)),
        (root / "README.md", README),
    ):
        text = path.read_text()
        for part in parts:
            block = render(rows, (part,), commands=path.name == "RESULTS.md")
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
    """What a row is compared by: on a CPU the ratio to its peer, since the rest is the machine's mood."""
    names = (
        ("ratio", "images_per_sec")
        if row.get("device", "cpu").startswith("cpu")
        else ("images_per_sec", "ratio")
    )
    return next(
        ((name, row[name]) for name in (*names, "cpu_seconds", "loss_difference") if row.get(name)),
        None,
    )


def compared(old: list[dict], new: list[dict]) -> str:
    """What both files have, and whether it moved: quartiles of the ratio that do not meet, or else by more than a tenth."""
    before = {key(row): row for row in old}
    lines = ["| command | figure | before | now | |", "| --- | --- | --- | --- | --- |"]
    for row in new:
        known = before.get(key(row))
        found, then = figure(row), figure(known) if known else None
        if not found or not then or found[0] != then[0]:
            continue
        if "ratio_spread" in row and found[0] == "ratio":
            (low, high), (was_low, was_high) = row["ratio_spread"], known["ratio_spread"]
            moved = low > was_high or high < was_low
        else:
            moved = abs(found[1] / then[1] - 1) > 0.1
        note = f"**{found[1] / then[1]:.2f} times**" if moved else ""
        lines.append(
            f"| `{row['command']}` {row['line']} | {found[0]} | {number(then[1])} | {number(found[1])} | {note} |"
        )
    return "\n".join(lines)
