"""The examples of the documentation run, with fewer epochs and rows, and do what the pages say of them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kdfuse as kf

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(page.stem for page in DOCS.glob("*.md") if page.stem not in ("results", "gallery", "reference"))
SHORTER = (
    (r"max_epochs=\d+", "max_epochs=2, eta=2"), (r"(?<!_)epochs=\d+", "epochs=1"), (r"kf\.Train\(\)", "kf.Train(epochs=1)"),
    (r"kf\.Distill\((\w+)\)", r"kf.Distill(\1, training=kf.Train(epochs=1))"), (r'load\("digits"\)', 'load("digits", labels=300)'),
    (r"kf\.Cluster\(16\)", "kf.Cluster(16, training=kf.Train(epochs=1))"), (r"n_trials=\d+", "n_trials=2"),
    (r"seeds=\(0, 1, 2\)", "seeds=(0, 1)"),
    (r"kf\.QuantizeAware\(\)", "kf.QuantizeAware(training=kf.Train(epochs=1))"), (r"generations=2", "generations=1"),
)  # fmt: skip


def committee(names: dict[str, Any], told: str) -> None:
    assert keras.models.load_model("cascade.keras").output_shape == (None, 10)
    assert "macs" in told and names["student"].count_params() == names["report"].metrics["size/parameters"]


def extended(names: dict[str, Any], told: str) -> None:
    p, q = np.array([[0.5, 0.5]], "float32"), np.array([[0.2, 0.8]], "float32")
    np.testing.assert_allclose(names["Minimum"]()([p, q]), [[0.2 / 0.7, 0.5 / 0.7]], rtol=1e-6)
    features = np.random.default_rng(0).standard_normal((3, 5)).astype("float32")
    assert float(names["CosineHints"]().compute_loss(features, features)) < -0.999
    assert all(np.array_equal(weight, weight.round(1)) for weight in names["rounded"].get_weights())
    assert "techniques__0__decimals" in names["report"].tables["trials"][0]


def searched(names: dict[str, Any], told: str) -> None:
    assert names["found"].best_estimator_.predict(names["x"][:3]).shape == (3,)
    assert names["smaller"].count_params() < names["best"].count_params() <= 20_000


def compressed(names: dict[str, Any], told: str) -> None:
    report = names["report"]
    assert report.files["tflite"].stat().st_size == report.metrics["size/tflite_bytes"] and str(report.files["tflite"]) in told


def compared(names: dict[str, Any], told: str) -> None:
    assert "32 units" in told and Path("digits.html").read_text(encoding="utf-8").startswith("<!")


SEEN: dict[str, Callable[[dict[str, Any], str], None]] = {
    "combine": committee, "compare": compared, "compress": compressed, "extend": extended, "searching": searched,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "compare":
        monkeypatch.setenv("KDFUSE_TRACKING", "on")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for code in blocks:
        for pattern, short in SHORTER:
            code = re.sub(pattern, short, code)
        exec(compile(code, f"docs/{page}.md", "exec"), names)
    if page in SEEN:
        SEEN[page](names, capsys.readouterr().out)


@pytest.mark.slow
def test_the_pages_are_a_site(tmp_path: Path) -> None:
    built = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(tmp_path)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert all((tmp_path / f"{page}.html").exists() for page in [*PAGES, "results", "gallery", "reference", "decisions/index"])


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    told = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, re.M)
    assert len(told) == len(set(told))
    assert {name for name in kf.__all__ if not name.startswith("__")} - {"datasets", "models", "runtime"} <= set(told)
    builders = {name for name, found in vars(kf.models).items() if callable(found)}
    assert builders <= set(told) and len(builders) >= 5 and "load" in told
