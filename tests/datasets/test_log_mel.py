from typing import Any

import numpy as np
import pytest

from kdfuse.datasets.log_mel import LogMel, hertz_of, mel_filters, mel_of

RNG = np.random.default_rng(0)


def direct(sound: np.ndarray, rate: int, frames: int, mels: int, window: int, hop: int, size: int, low: float, floor: float) -> np.ndarray:
    """The definition, sum by sum: no Fourier routine, no matrix of filters."""

    def mel(f: float) -> float:
        return 1127.0 * np.log1p(f / 700.0)  # the same scale with the natural logarithm

    bottom, top = mel(low), mel(rate / 2)
    edges = [bottom + (top - bottom) * k / (mels + 1) for k in range(mels + 2)]
    result = np.zeros((frames, mels))
    for frame in range(frames):
        piece = [sound[frame * hop + n] * np.sin(np.pi * n / window) ** 2 for n in range(window)]
        energy = np.zeros(mels)
        for k in range(size // 2 + 1):
            angle = 2 * np.pi * k * np.arange(window) / size
            power = np.dot(piece, np.cos(angle)) ** 2 + np.dot(piece, np.sin(angle)) ** 2
            at = mel(k * rate / size)
            for m in range(mels):
                left, centre, right = edges[m : m + 3]
                if left < at <= centre:
                    energy[m] += power * (at - left) / (centre - left)
                elif centre < at < right:
                    energy[m] += power * (right - at) / (right - centre)
        result[frame] = np.log(energy + floor)
    return result


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 8000, "frames": 3, "mels": 8, "window": 50, "hop": 20, "size": 64, "low": 20.0, "floor": 1e-6},
        {"rate": 16000, "frames": 2, "mels": 5, "window": 33, "hop": 40, "size": 33, "low": 0.0, "floor": 1e-2},
    ],
)
def test_it_equals_the_sums_of_the_definition(settings: dict[str, Any]) -> None:
    spectrogram = LogMel(**settings)
    sound = RNG.normal(size=spectrogram.samples) * 0.1
    np.testing.assert_allclose(spectrogram([sound])[0], direct(sound, **settings), rtol=2e-4, atol=2e-4)


def test_a_tone_is_loudest_in_the_band_that_holds_it() -> None:
    spectrogram = LogMel()
    time = np.arange(spectrogram.samples) / 8000
    centres = hertz_of(np.linspace(mel_of(20), mel_of(4000), 42)[1:-1])
    for band in (5, 20, 35):
        loud = spectrogram([0.5 * np.sin(2 * np.pi * centres[band] * time)])[0]
        assert abs(loud.mean(axis=0).argmax() - band) <= 1


def test_the_mel_scale() -> None:
    assert abs(float(mel_of(1000.0)) - 1000.0) < 0.1
    np.testing.assert_allclose(hertz_of(mel_of(np.array([0.0, 20.0, 4000.0]))), [0.0, 20.0, 4000.0], atol=1e-9)
    filters = mel_filters(40, 256, 8000, 20.0, 4000.0)
    assert filters.shape == (129, 40) and filters.min() == 0 and filters.max() <= 1
    # Neighbours overlap by half, so between the first and the last peak they sum to 1.
    inner = (np.arange(129) * 31.25 > 60) & (np.arange(129) * 31.25 < 3700)
    np.testing.assert_allclose(filters[inner].sum(axis=1), 1.0, atol=1e-9)


def test_the_middle_is_kept_and_short_sounds_lie_in_the_middle() -> None:
    spectrogram = LogMel(frames=2, hop=10, window=20, size=32, mels=3)
    assert spectrogram.samples == 30
    np.testing.assert_array_equal(spectrogram.fitted(np.arange(33.0)), np.arange(1.0, 31.0))
    np.testing.assert_array_equal(spectrogram.fitted(np.arange(30.0)), np.arange(30.0))
    np.testing.assert_array_equal(spectrogram.fitted(np.ones(27)), np.pad(np.ones(27), (1, 2)))
    silent = spectrogram([np.zeros(5)])
    assert silent.dtype == np.float32 and np.allclose(silent, np.log(1e-6))


@pytest.mark.parametrize(
    "change",
    [{"rate": 16000}, {"frames": 5}, {"mels": 12}, {"window": 100}, {"hop": 50}, {"size": 512}, {"low": 300.0}, {"floor": 1e-2}],
)
def test_every_setting_changes_the_picture(change: dict[str, Any]) -> None:
    sounds = [RNG.normal(size=3000) * 0.1]
    base = LogMel(frames=6, mels=10)
    one, other = base(sounds), LogMel(**{"frames": 6, "mels": 10, **change})(sounds)
    assert one.shape != other.shape or not np.allclose(one, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 0),
        ("frames", 0),
        ("frames", 2.5),
        ("mels", True),
        ("window", 0),
        ("hop", 0),
        ("size", 199),
        ("low", 4000.0),
        ("floor", 0.0),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}`: .*Received: {name}="):
        LogMel(**{name: value})


def test_more_bands_than_the_transform_has_room_for() -> None:
    with pytest.raises(ValueError, match=r"`mels`: .*31.25 Hz apart\. Received: mels=120, with \d+ empty bands"):
        LogMel(mels=120)
