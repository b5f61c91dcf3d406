"""A real PostgreSQL, where it is installed: as the store itself, and behind an MLflow server as compose.yaml starts it, with S3."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender
from tests.tracking.test_sender import answers, free_port, kill, server

COMPOSE = Path(__file__).parents[2] / "mlflow" / "compose.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URI of an empty database of a server of its own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'kdfuse[postgres]'")
    if not all(map(shutil.which, ("initdb", "pg_ctl", "createdb"))):
        pytest.skip("PostgreSQL's initdb, pg_ctl and createdb are not on the PATH")
    # PostgreSQL does not run as root, and pytest's folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="kdfuse-postgres-"))
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    port = free_port()

    def call(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    try:
        call("initdb", "-D", f"{folder}/db", "-U", "mlflow", "-A", "trust", "--no-sync")
        call("pg_ctl", "-D", f"{folder}/db", "-w", "-l", f"{folder}/log", "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F", "start")
        try:
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "behind")
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "composed")
            yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/"
        finally:
            call("pg_ctl", "-D", f"{folder}/db", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_four_processes_meet_an_empty_database(postgres: str, tmp_path: Path) -> None:
    code = "import sys; from kdfuse.tracking.store import Destination, Store; print(Store(Destination(sys.argv[1], 'digits')).experiment)"
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, postgres + "mlflow"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = [process.communicate(timeout=240)[0].split()[-1:] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert found == [found[0]] * 4 and found[0]


def test_a_run_behind_a_server(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import list_artifacts

    monkeypatch.setenv("KDFUSE_TRACKING", "on")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with server(tmp_path, port, postgres + "behind"):
        data = kf.datasets.load("digits")
        with recording.use(MlflowRecorder("digits", uri)):
            _, report = kf.Train(epochs=2)(kf.models.mlp(data, units=4), data, name="behind")
        sender().wait()
        client = MlflowClient(tracking_uri=uri)
        (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        assert run.info.status == "FINISHED" and run.info.run_name == "behind"
        assert run.data.metrics["test/accuracy"] == pytest.approx(report.metrics["test/accuracy"])
        assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 2
        assert list_artifacts(run_id=run.info.run_id, tracking_uri=uri)
        assert any((tmp_path / "artifacts").rglob("*.keras"))


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """The environment in which `s3://mlflow` is a bucket of an S3-compatible server of its own."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: pip install 'kdfuse[s3]'")
    pytest.importorskip("moto", reason="moto, the S3-compatible server of this test, is not installed: pip install 'moto[s3]' flask-cors")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        answers(process, port, "moto-api/")
        found = {"MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"}
        keys = {"aws_access_key_id": "one", "aws_secret_access_key": "two", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=found["MLFLOW_S3_ENDPOINT_URL"], **keys).create_bucket(Bucket="mlflow")
        yield found
    finally:
        kill(process)


def test_the_server_of_the_compose_file_with_files_in_s3(
    postgres: str, bucket: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    import yaml

    command = yaml.safe_load(COMPOSE.read_text())["services"]["server"]["command"][-1].replace("$$", "$").partition("exec ")[2]
    port = free_port()
    for theirs, ours in (
        ("mlflow server", f"{sys.executable} -m mlflow server"),
        ("0.0.0.0 --port 5000", f"127.0.0.1 --port {port}"),
        ("database/mlflow", postgres.rpartition("@")[2] + "composed"),
    ):
        assert theirs in command
        command = command.replace(theirs, ours)
    environment = {
        **os.environ,
        **bucket,
        "POSTGRES_PASSWORD": "any",
        "FILES": "s3://mlflow",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], env=environment, cwd=tmp_path, stdout=quiet, stderr=quiet, start_new_session=True
    )
    monkeypatch.setenv("KDFUSE_TRACKING", "on")
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    try:
        answers(process, port)
        data = kf.datasets.load("digits", labels=200)
        with recording.use(MlflowRecorder("digits", uri)):
            model, _ = kf.Train(epochs=1)(kf.models.mlp(data, units=4), data, name="in the bucket")
        sender().wait()
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        back = kf.load_model(f"runs:/{run.info.run_id}/model")  # the client has none of the bucket's keys
        assert all((one == other).all() for one, other in zip(back.get_weights(), model.get_weights(), strict=True))
    finally:
        kill(process)
    keys = {"aws_access_key_id": "one", "aws_secret_access_key": "two", "region_name": "us-east-1"}
    kept = boto3.client("s3", endpoint_url=bucket["MLFLOW_S3_ENDPOINT_URL"], **keys).list_objects_v2(Bucket="mlflow")["Contents"]
    assert any(one["Key"].endswith(".keras") and one["Size"] > 1000 for one in kept)
    assert not list(tmp_path.rglob("*.keras"))
