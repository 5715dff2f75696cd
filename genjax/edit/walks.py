"""Walks through latents, and tables of mixed styles. Functions over weights."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genjax import sampling
from genjax.core import Sampler, Weights
from genjax.errors import ConfigError
from genjax.nn import ops


def loop(stops: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread frames evenly over a round of `stops`.

    Returns the stop before each frame, the one after it, and the fraction of the way
    between, [frames] each. The last frame is as far from the first as any from the
    next.
    """
    place = stops * np.arange(frames)  # in frames, so that a stop is hit exactly
    before = place // frames
    return before, (before + 1) % stops, (place % frames / frames).astype(np.float32)


def walk(
    sampler: Sampler,
    weights: Weights,
    latents: jax.Array,
    labels: np.ndarray | None,
    truncation: float,
    space: str,
    frames: int,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Yield images uint8 [h, w, c] on the way from latent to latent, and back to the
    first.

    Args:
        sampler: of the model
        weights: of the model
        latents: [n, z_dim]
        labels: int32 [n] of a conditional model; in space z, each holds until the next
            latent
        truncation: as the sampler's
        space: z, along arcs between latents, or w, along lines between their styles
        frames: number of images
        first: number of the first image that is drawn

    Raises ConfigError for space w of a model without styles.
    """
    before, after, share = loop(len(latents), frames)
    ends, draw = latents, sampling.drawer(sampler, truncation)
    map_latents, draw_styles = sampler.map_latents, sampler.draw_styles
    if space == "w":
        if map_latents is None or draw_styles is None:
            raise ConfigError("space", space, "the model has no styles; leave it out")
        ends = map_latents(weights, ends, labels, truncation)

    def between(weights, ends, labels, before, after, share):
        start, end = ends[before], ends[after]
        if space == "z" or draw_styles is None:
            labels = None if labels is None else labels[before]
            return draw(weights, ops.slerp(start, end, share[:, None]), labels)
        return draw_styles(weights, start + share[:, None, None] * (end - start))

    along = (before, after, share)
    for images in sampling.batches(between, weights, (ends, labels), along, sampler.shape, first):
        yield from images


def style_table(
    sampler: Sampler, weights: Weights, rows: jax.Array, columns: jax.Array, layers: Sequence[int]
) -> np.ndarray:
    """Draw a table of mixed styles, uint8 [(r + 1) * (c + 1), h, w, channels], row by
    row.

    The first row is the columns' images, the first column the rows', their corner
    white; an entry has its row's styles, and its column's in `layers`.

    Args:
        sampler: of the model
        weights: of the model
        rows: styles [r, num_styles, w_dim]
        columns: styles [c, num_styles, w_dim]
        layers: indices of the layers that take the column's style

    Raises ConfigError for a model without styles.
    """
    draw_styles = sampler.draw_styles
    if draw_styles is None:
        raise ConfigError("layers", None, "the model has no styles")
    places = np.indices((len(rows) + 1, len(columns) + 1))
    row, column = (indices.ravel()[1:] for indices in places)
    mixed = np.isin(np.arange(rows.shape[1]), layers)
    from_column = np.where((row * column > 0)[:, None], mixed[None], (row == 0)[:, None])

    def draw(weights, rows, columns, row, column, from_column):
        styles = jnp.where(from_column[..., None], columns[column], rows[row])
        return draw_styles(weights, styles)

    along = (np.maximum(row - 1, 0), np.maximum(column - 1, 0), from_column)
    images = sampling.batches(draw, weights, (rows, columns), along, sampler.shape)
    return np.concatenate([np.full((1, *sampler.shape), 255, np.uint8), *images])
