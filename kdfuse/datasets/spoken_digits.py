"""Spoken digits: 3,000 recordings of the digits in English by six speakers, as log-mel spectrograms."""

import hashlib
import io
import re
import wave
import zipfile
from pathlib import Path

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets import files
from kdfuse.datasets.log_mel import LogMel
from kdfuse.datasets.prepare import with_labels
from kdfuse.splits import ArraySplit, Split

ORIGIN = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
ARCHIVES = ("free-spoken-digit-dataset.zip", "free-spoken-digit-dataset-1.0.10.zip")
CONTENT = "4ea153d64ccd798dd089a66f81163a3ce6ba0832b446465502cc1f2a2de08e39"
"""SHA-256 over the names and bytes of the recordings, in the order of the names: the source packs its archive anew on each request."""
RATE = 8000
TEST_INDICES = range(5)
RECORDING = re.compile(r"(?:.*/)?recordings/((\d)_[a-z]+_(\d+)\.wav)")


def load_spoken_digits(validation: float = 0.1, labels: int | None = None, seed: int = 0, frames: int = 64, mels: int = 40) -> Data:
    """Inputs `(frames, mels, 1)` float32, labels 0 to 9; the official split: recordings 0 to 4 of each speaker and digit are for test.

    Log-mel spectrograms with windows of 25 ms every 10 ms (`kdfuse.datasets.log_mel`) of the middle of each recording, at 8 kHz;
    each band is standardised by its mean and deviation over the training rows. The axis of channels makes a picture of them for
    `convnet` and `resnet`; `recurrent` and `transformer` read them window by window.

    The same six speakers are in all splits: 2,700 and 300 recordings, of which a tenth of the first is for validation by default.

    Args:
        validation: share of the training rows to set aside, drawn by class; 0 for none.
        labels: keep only so many training rows, drawn by class; None for all. The rows that are left standardise.
        seed: of both draws.
        frames: windows of each spectrogram; 64 span 0.655 s, which holds 19 in 20 recordings whole.
        mels: bands of each window.

    Reference: Jackson et al. 2018, "Free Spoken Digit Dataset", v1.0.10, CC BY-SA 4.0.
    """
    spectrogram = LogMel(rate=RATE, frames=frames, mels=mels)
    path = files.find(ARCHIVES) or files.download(ARCHIVES[1], ORIGIN, None)
    recordings = read(path)
    received = content(recordings)
    if received != CONTENT:
        raise ValueError(
            f"{path}: expected the published recordings, SHA-256 {CONTENT} over names and bytes. Received: {len(recordings)} recordings, "
            f"{received}. Delete it or replace it."
        )
    return make(recordings, spectrogram, validation, labels, seed)


def make(recordings: dict[str, bytes], spectrogram: LogMel, validation: float, labels: int | None, seed: int) -> Data:
    """The data of `.wav` files by their names `{digit}_{speaker}_{index}.wav`."""
    x = spectrogram([sound(recording, name) for name, recording in recordings.items()])[..., None]
    numbers = [name.removesuffix(".wav").split("_") for name in recordings]
    y = np.array([int(digit) for digit, _, _ in numbers], np.int64)
    test = np.array([int(index) in TEST_INDICES for _, _, index in numbers])
    names = [str(digit) for digit in range(10)]
    data = Data((x[~test], y[~test]), validation or None, (x[test], y[test]), name="spoken_digits", class_names=names, seed=seed)
    return _standardised(with_labels(data, labels))


def read(path: Path) -> dict[str, bytes]:
    """The recordings in an archive by their names, in the order of the names.

    Raises:
        ValueError: it is no archive, or has no recordings.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {match[1]: archive.read(name) for name in archive.namelist() if (match := RECORDING.fullmatch(name))}
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected a readable .zip file. Received: {error}. Delete it or replace it.") from error
    if not found:
        raise ValueError(f"{path}: expected recordings/{{digit}}_{{speaker}}_{{index}}.wav. Received: none. Delete it or replace it.")
    return dict(sorted(found.items()))


def content(recordings: dict[str, bytes]) -> str:
    """The SHA-256 (hex) over the names and bytes of the recordings."""
    summed = hashlib.sha256()
    for name, recording in recordings.items():
        summed.update(f"{name}|{len(recording)}|".encode())
        summed.update(recording)
    return summed.hexdigest()


def sound(recording: bytes, name: str) -> np.ndarray:
    """The samples of a `.wav` file in [-1, 1], float64.

    Raises:
        ValueError: it is not one channel of 16-bit samples at 8 kHz.
    """
    with wave.open(io.BytesIO(recording)) as file:
        form = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
        if form != (RATE, 1, 16):
            raise ValueError(f"{name}: expected {RATE} Hz, 1 channel, 16 bits. Received: {form}. Convert it.")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0


def _standardised(data: Data) -> Data:
    train = data.train.head(data.train.rows or 0)[0].astype(np.float64)
    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    deviation[deviation == 0] = 1

    def changed(split: Split | None) -> Split | None:
        return ArraySplit(((split.x - mean) / deviation).astype(np.float32), split.y) if isinstance(split, ArraySplit) else split

    return data.with_splits(train=changed(data.train), validation=changed(data.validation), test=changed(data.test))
