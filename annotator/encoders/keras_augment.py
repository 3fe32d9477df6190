"""Random views of images, in TensorFlow: cropped, turned a little, moved, mirrored, lit, coloured, partly covered.

Everything random is a function of a pair of seeds, so a training that is taken up again sees the views that it would
have seen. Which changes keep what an image shows is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annotator.encoders.keras_setup import tf

Tensor = Any  # TensorFlow ships no types

N_RANDOM = 20
"""Numbers drawn for each view."""
AREA = (0.3, 1.0)
"""Share of the image that a crop keeps."""
ASPECT, TURN, SHIFT = 0.25, 0.15, 0.12
"""Logarithm of height to width; radians; share of a side that a view may reach beyond the image."""
BRIGHTNESS, CONTRAST, GAMMA = 0.1, 0.4, 0.5
"""What is added; logarithms of a factor and of an exponent."""
COVERED, COVERED_SIDE = 0.5, (0.15, 0.4)
"""How often a rectangle is covered, and shares of a side that it has."""
TINT, GREYED = 0.25, 0.2
"""Logarithm of a factor of each channel; how often a view has no colour."""


@dataclass(frozen=True)
class Changes:
    """What keeps the meaning of the images."""

    flip: bool
    colour_jitter: bool


def view(images: Tensor, seeds: Tensor, changes: Changes) -> Tensor:
    """(n, side, side, n_channels) in 0..1 -> as many random views in the same shape; `seeds` (2,) int32."""
    random = tf.random.stateless_uniform((N_RANDOM, tf.shape(images)[0]), seeds)
    seen = _lit(_moved(images, random[:6], changes.flip), random[6:9])
    if changes.colour_jitter and images.shape[3] == 3:
        seen = _coloured(seen, random[15:19])
    return _covered(tf.clip_by_value(seen, 0.0, 1.0), random[9:15])


def _between(random: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * random


def _around(random: Tensor, most: float) -> Tensor:
    """0..1 -> -most..most"""
    return _between(random, -most, most)


def _moved(images: Tensor, random: Tensor, flip: bool) -> Tensor:
    """Crop, resize, turn and mirror at once, by the matrix that takes a point of the view to one of the image."""
    side, middle = images.shape[1], (images.shape[1] - 1) / 2
    length, aspect = tf.sqrt(_between(random[0], *AREA)), tf.exp(_around(random[1], ASPECT))
    wide, tall = length * aspect, length / aspect
    mirrored = tf.where(random[2] < 0.5, -wide, wide) if flip else wide
    cosine, sine = tf.cos(_around(random[3], TURN)), tf.sin(_around(random[3], TURN))
    across, down = (mirrored * cosine, -tall * sine), (mirrored * sine, tall * cosine)
    left = middle + side * _room(wide) * _around(random[4], 1.0) - (across[0] + across[1]) * middle
    top = middle + side * _room(tall) * _around(random[5], 1.0) - (down[0] + down[1]) * middle
    none = tf.zeros_like(left)
    matrix = tf.stack([*across, left, *down, top, none, none], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrix,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _room(length: Tensor) -> Tensor:
    """How far the middle of a crop of this length may be from the image's, in sides."""
    return (1 - tf.minimum(length, 1.0)) / 2 + SHIFT / 2


def _lit(images: Tensor, random: Tensor) -> Tensor:
    gamma, contrast = tf.exp(_around(random[0], GAMMA)), tf.exp(_around(random[1], CONTRAST))
    brightness = _around(random[2], BRIGHTNESS)
    return tf.pow(images + 1e-3, _each(gamma)) * _each(contrast) + _each(brightness)


def _coloured(images: Tensor, random: Tensor) -> Tensor:
    """Each channel stronger or weaker; now and then all of them equal."""
    tinted = images * tf.exp(tf.transpose(_around(random[:3], TINT)))[:, None, None, :]
    grey = tf.reduce_mean(tinted, axis=3, keepdims=True)
    return tf.where(_each(random[3]) < GREYED, grey, tinted)


def _covered(images: Tensor, random: Tensor) -> Tensor:
    """A rectangle of one brightness over some of the views."""
    side = images.shape[1]
    places = tf.range(side, dtype=tf.float32)[None]
    inside = [
        tf.abs(places - side * centre[:, None]) < side * _between(length, *COVERED_SIDE)[:, None] / 2
        for centre, length in ((random[0], random[1]), (random[2], random[3]))
    ]
    covered = inside[0][:, :, None] & inside[1][:, None, :] & (random[4] < COVERED)[:, None, None]
    return tf.where(covered[..., None], _each(random[5]), images)


def _each(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)"""
    return values[:, None, None, None]
