"""Sound to pictures: logarithms of mel bands over time, in NumPy."""

from collections.abc import Sequence

import numpy as np

from kdfuse.settings import settings


def mel_of(hertz: np.ndarray | float) -> np.ndarray:
    """The mel scale, `2595 log10(1 + f / 700)`: equal steps sound equally far apart.

    Reference: O'Shaughnessy 1987, "Speech Communication", page 150; as in HTK (Young et al. 2006, "The HTK Book", section 5.4).
    """
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, np.float64) / 700.0)


def hertz_of(mel: np.ndarray | float) -> np.ndarray:
    """The inverse of `mel_of`."""
    return 700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0)


def mel_filters(mels: int, size: int, rate: int, low: float, high: float) -> np.ndarray:
    """Triangles that are equally wide on the mel scale and overlap by half, `(size // 2 + 1, mels)` float64.

    Filter m rises from 0 at the m-th to 1 at the next and falls to 0 at the one after of `mels + 2` points, which are equally far
    apart in mel from `low` to `high` hertz. The slopes are straight on the mel scale.

    Args:
        mels: number of filters.
        size: of the Fourier transform.
        rate: samples a second.
        low: where the first filter begins, in hertz.
        high: where the last one ends, in hertz.

    Raises:
        ValueError: a filter is so narrow that it holds no frequency of the transform.

    Reference: Young et al. 2006, "The HTK Book", section 5.4.
    """
    points = np.linspace(mel_of(low), mel_of(high), mels + 2)
    at = mel_of(np.arange(size // 2 + 1) * (rate / size))[:, None]
    rise = (at - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - at) / (points[2:] - points[1:-1])
    filters = np.maximum(0.0, np.minimum(rise, fall))
    if not filters.any(axis=0).all():
        raise ValueError(
            f"`mels`: expected bands that each hold a frequency of the transform, {rate / size:g} Hz apart. Received: mels={mels}, with "
            f"{int((~filters.any(axis=0)).sum())} empty bands. Give fewer mels."
        )
    return filters


@settings
class LogMel:
    """Log-mel spectrograms of sounds, all of one size.

    Each sound is cut at both ends alike, or filled up with zeros at both ends alike, to the samples that `frames` windows span. Each
    window, weighted by a Hann window, goes through a Fourier transform; its power goes through the mel filters; what comes out is
    the natural logarithm of their sums plus `floor`.

    Args:
        rate: samples a second.
        frames: number of windows.
        mels: number of mel bands.
        window: samples of each window (25 ms at 8 kHz).
        hop: samples from the start of one window to that of the next (10 ms at 8 kHz).
        size: of the Fourier transform, at least `window`; the rest is zeros.
        low: where the bands begin, in hertz; they end at half the rate.
        floor: added before the logarithm, where full scale is 1; keeps silence finite.

    Raises:
        ValueError: a setting out of range, or more bands than the transform has room for.
    """

    rate: int = 8000
    frames: int = 64
    mels: int = 40
    window: int = 200
    hop: int = 80
    size: int = 256
    low: float = 20.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("rate", "frames", "mels", "window", "hop", "size"):
            value = getattr(self, name)
            low = self.window if name == "size" else 1
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"`{name}`: expected an integer of at least {low}. Received: {name}={value!r}. Give a larger number.")
        if not 0 <= self.low < self.rate / 2:
            raise ValueError(f"`low`: expected hertz from 0 to below half the rate, {self.rate / 2:g}. Received: low={self.low!r}.")
        if not self.floor > 0:
            raise ValueError(f"`floor`: expected a number above 0. Received: floor={self.floor!r}. Give for example 1e-6.")
        self.filters()

    @property
    def samples(self) -> int:
        """The samples that the frames span."""
        return (self.frames - 1) * self.hop + self.window

    def __call__(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """`(sounds, frames, mels)` float32 of sounds `(samples,)` in [-1, 1]."""
        filters = self.filters()
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        made = np.empty((len(sounds), self.frames, self.mels), np.float32)
        for row, sound in zip(made, sounds, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(self.fitted(sound), self.window)[:: self.hop]
            power = np.abs(np.fft.rfft(windows * hann, self.size)) ** 2
            row[:] = np.log(power @ filters + self.floor)
        return made

    def fitted(self, sound: np.ndarray) -> np.ndarray:
        """`sound` with `samples` samples: its middle, or the whole of it in the middle of zeros."""
        missing = self.samples - len(sound)
        if missing > 0:
            return np.pad(sound, (missing // 2, missing - missing // 2))
        start = -missing // 2
        return sound[start : start + self.samples]

    def filters(self) -> np.ndarray:
        """The mel filters, `(size // 2 + 1, mels)`."""
        return mel_filters(self.mels, self.size, self.rate, self.low, self.rate / 2)
