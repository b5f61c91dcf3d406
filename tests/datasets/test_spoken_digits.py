import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kdfuse.datasets import files, spoken_digits
from kdfuse.datasets.load import load
from kdfuse.datasets.log_mel import LogMel
from kdfuse.datasets.spoken_digits import load_spoken_digits, read, sound

needs_file = pytest.mark.skipif(
    files.find(spoken_digits.ARCHIVES) is None, reason="needs free-spoken-digit-dataset.zip in KDFUSE_DATA or in the Keras cache"
)


def wav(samples: np.ndarray, rate: int = 8000, channels: int = 1) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def tone(digit: int, speaker: int, index: int) -> np.ndarray:
    time = np.arange(2000 + 100 * index) / 8000
    return 8000 * np.sin(2 * np.pi * (300 + 200 * digit + 10 * speaker) * time)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive like the published one: two speakers, ten digits, indices 3 to 8; the hash of its contents in the published place."""
    with zipfile.ZipFile(tmp_path / "free-spoken-digit-dataset-1.0.10.zip", "w") as archive:
        archive.writestr("free-spoken-digit-dataset-1.0.10/README.md", "not a recording")
        for digit in range(10):
            for number, speaker in enumerate(("ann", "bob")):
                for index in range(3, 9):
                    name = f"free-spoken-digit-dataset-1.0.10/recordings/{digit}_{speaker}_{index}.wav"
                    archive.writestr(name, wav(tone(digit, number, index)))
    recordings = read(tmp_path / "free-spoken-digit-dataset-1.0.10.zip")
    monkeypatch.setattr("kdfuse.datasets.spoken_digits.CONTENT", spoken_digits.content(recordings))
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    return tmp_path


def test_the_official_split_standardised_by_the_training_rows(folder: Path) -> None:
    data = load_spoken_digits(validation=0, frames=20, mels=12)
    assert (data.input_shape, data.classes, data.task, data.name) == ((20, 12, 1), 10, "classification", "spoken_digits")
    spectrogram = LogMel(frames=20, mels=12)

    def raw(indices: range) -> tuple[np.ndarray, np.ndarray]:
        each = [(digit, speaker, index) for digit in range(10) for speaker in (0, 1) for index in indices]
        return spectrogram([tone(*one).astype("<i2") / 32768 for one in each]).astype("float64"), np.array([one[0] for one in each])

    (train, y_train), (test, y_test) = raw(range(5, 9)), raw(range(3, 5))
    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    for split, x, y in ((data.train, train, y_train), (data.test, test, y_test)):
        assert split.x.dtype == np.float32  # type: ignore[union-attr]
        np.testing.assert_allclose(split.x[..., 0], (x - mean) / deviation, rtol=1e-3, atol=1e-4)  # type: ignore[union-attr]
        np.testing.assert_array_equal(split.y, y)  # type: ignore[union-attr]
    shares = load_spoken_digits(validation=0.25, frames=20, mels=12)
    assert [split.rows for split in (shares.train, shares.validation, shares.test)] == [60, 20, 40]  # type: ignore[union-attr]


def test_labels_seeds_and_fingerprints(folder: Path) -> None:
    one, other = load_spoken_digits(seed=1, frames=9, mels=8), load_spoken_digits(seed=2, frames=9, mels=8)
    np.testing.assert_array_equal(one.test.y, other.test.y)  # type: ignore[union-attr]
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == load_spoken_digits(seed=1, frames=9, mels=8).fingerprint
    few = load_spoken_digits(labels=20, frames=9, mels=8, validation=0)
    assert few.train.rows == 20 and few.validation is None and np.bincount(few.train.targets()).tolist() == [2] * 10
    np.testing.assert_allclose(few.train.head(20)[0].mean(axis=(0, 1)), 0, atol=1e-4)
    with pytest.raises(ValueError, match="`frames`"):
        load_spoken_digits(frames=0)


def test_a_changed_recording_is_refused_in_any_container(folder: Path) -> None:
    path = folder / "free-spoken-digit-dataset-1.0.10.zip"
    recordings = read(path)
    path.unlink()
    with zipfile.ZipFile(folder / "free-spoken-digit-dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, recording in reversed(recordings.items()):
            archive.writestr(f"recordings/{name}", recording)
    assert load_spoken_digits(frames=9, mels=8).train.rows == 72
    with zipfile.ZipFile(folder / "free-spoken-digit-dataset.zip", "a") as archive:
        archive.writestr("recordings/0_cy_9.wav", wav(tone(0, 2, 9)))
    with pytest.raises(ValueError, match="expected the published recordings.*Received: 121 recordings"):
        load_spoken_digits()


def test_what_is_no_archive_or_no_such_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"expected a readable \.zip file"):
        read(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("sounds/0_ann_1.wav", b"")
    with pytest.raises(ValueError, match="expected recordings/"):
        read(tmp_path / "b.zip")
    with pytest.raises(ValueError, match=r"a\.wav: expected 8000 Hz, 1 channel, 16 bits\. Received: \(16000, 2, 16\)"):
        sound(wav(np.zeros(8), rate=16000, channels=2), "a.wav")


@needs_file
def test_the_real_set() -> None:
    data = load("spoken_digits", mels=20)
    assert [split.rows for split in (data.train, data.validation, data.test)] == [2430, 270, 300]  # type: ignore[union-attr]
    assert data.input_shape == (64, 20, 1) and np.bincount(data.test.y).tolist() == [30] * 10  # type: ignore[union-attr]
    x = data.train.x  # type: ignore[attr-defined]
    np.testing.assert_allclose(x.std(axis=(0, 1)), 1, atol=1e-3)
    # The nearest training picture mostly shows the same digit: pictures and labels belong together.
    flat, test = x.reshape(len(x), -1), data.test.x.reshape(300, -1)  # type: ignore[union-attr]
    distances = (flat**2).sum(axis=1) - 2 * test @ flat.T
    near = data.train.y[distances.argmin(axis=1)]  # type: ignore[attr-defined]
    accuracy = (near == data.test.y).mean()  # type: ignore[union-attr]
    assert accuracy > 0.8
