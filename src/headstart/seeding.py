"""Independent random streams from one seed, so that what one draws never moves another's numbers."""

import zlib

import numpy as np


def stream(seed: int, name: str, *keys: int) -> np.random.Generator:
    """A generator that depends on `seed`, on the stream's name and on `keys` (epoch, example, …) alone."""
    return np.random.default_rng(_sequence(seed, name, *keys))


def seed_for(seed: int, name: str, *keys: int) -> int:
    """A 63-bit seed for torch, from the same streams as `stream`."""
    return int(_sequence(seed, name, *keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _sequence(seed: int, name: str, *keys: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, zlib.crc32(name.encode()), *keys])
