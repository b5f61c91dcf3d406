"""kd.py: what it decides before it installs anything. The installation itself runs in CI, which starts from nothing."""

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def kd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """kd.py for a project of its own, with a lock, a pip that is not configured, and nothing installed."""
    spec = importlib.util.spec_from_file_location("kd", ROOT / "kd.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for name, path in {"ROOT": ".", "TOOLS": ".tools", "VENV": ".venv", "LOCK": "requirements.lock", "STAMP": ".venv/kd-stamp"}.items():
        monkeypatch.setattr(module, name, str(tmp_path / path))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return module


def test_a_ready_environment_is_used_at_once(kd: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(kd.VENV)
    Path(kd.STAMP).write_text(kd.stamp())
    monkeypatch.setattr(kd.subprocess, "call", lambda *arguments, **more: pytest.fail("something was run"))
    assert kd.set_up() == 0
    before = kd.stamp()
    Path(kd.LOCK).write_text("changed")
    assert kd.stamp() != before


def test_an_environment_of_somebody_else_is_left_alone(kd: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    os.makedirs(kd.VENV)
    assert kd.set_up() == 1
    assert "`.venv` exists and was not made by kd.py" in capsys.readouterr().err
    assert os.path.isdir(kd.VENV)


def test_uv_is_fetched_by_the_hashes_of_the_lock(kd: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def call(command: list[str], **more: object) -> int:
        calls.append(command)
        if "install" in command:
            os.makedirs(os.path.join(kd.TOOLS, "bin"))
            Path(kd.TOOLS, "bin", "uv").touch()
        return 0

    os.makedirs(kd.TOOLS)
    monkeypatch.setattr(kd.subprocess, "call", call)
    assert kd.find_uv() == os.path.join(kd.TOOLS, "bin", "uv")
    requirement = Path(kd.TOOLS, "uv.txt").read_text().splitlines()
    assert requirement[0].startswith("uv==") and len(requirement) > 5
    assert all(line.strip().startswith("--hash=sha256:") for line in requirement[1:])
    assert "--require-hashes" in calls[1] and "--target" in calls[1]
    assert kd.find_uv() and len(calls) == 2


def test_a_python_without_pip_gets_a_clear_word(
    kd: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kd.subprocess, "call", lambda command, **more: 1)
    monkeypatch.setattr(kd.shutil, "which", lambda name: None)
    assert kd.find_uv() is None
    assert "This Python has no pip" in capsys.readouterr().err


def test_the_settings_of_pip_reach_uv(kd: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    listed = [
        "global.index-url='https://mirror.example/simple'",
        "global.trusted-host='\\none.example\\ntwo.example'",
        "global.proxy='http://proxy.example:3128'",
        f"global.cert='{certificate}'",
        "install.no-index='true'",
        "install.find-links='https://wheels.example'",
    ]
    # What `pip config list` prints; the environment of these tests has no pip.
    monkeypatch.setattr(kd.subprocess, "run", lambda *command, **more: subprocess.CompletedProcess(command, 0, "\n".join(listed).encode()))
    for name in ("ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    env = kd.install_environment()
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["UV_INSECURE_HOST"] == "one.example two.example"
    assert env["ALL_PROXY"] == "http://proxy.example:3128"
    assert (env["UV_NO_INDEX"], env["UV_FIND_LINKS"]) == ("1", "https://wheels.example")
    assert env["SSL_CERT_FILE"] == str(certificate)
    listed.insert(0, ":env:.index-url='https://other.example/simple'")
    assert kd.install_environment()["UV_DEFAULT_INDEX"] == "https://other.example/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert kd.install_environment()["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_an_unfit_python_is_told_which_one_to_use(
    kd: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kd.sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(kd.shutil, "which", lambda name: name if name == "python3.12" else None)
    assert kd.main(["test", "-x"]) == 1
    said = capsys.readouterr().err
    assert "needs Python 3.11, 3.12 or 3.13" in said and "Run: python3.12 kd.py test -x" in said


@pytest.mark.parametrize("arguments", [["tset"], ["run"]])
def test_an_unknown_command_shows_the_known_ones(kd: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert kd.main(arguments) == 1
    said = capsys.readouterr().err
    assert "is not a command" in said and "kd.py quickstart" in said


def test_help_needs_no_installation() -> None:
    done = subprocess.run([sys.executable, ROOT / "kd.py"], capture_output=True, text=True, check=True)
    assert "kd.py quickstart" in done.stdout


def test_ci_runs_the_commands_of_the_readme() -> None:
    script, readme = (ROOT / ".ci" / "run").read_text(), (ROOT / "README.md").read_text()
    assert "python3 kd.py test" in script and "\n    python3 kd.py test\n" in readme
    assert "\n    python3 kd.py quickstart\n" in readme
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR
