"""Runs in MLflow: journalled first, sent by a background thread, and sent later where the server was away."""

from kdfuse.tracking.mlflow_recorder import MlflowRecorder as MlflowRecorder
from kdfuse.tracking.offline import sync as sync
from kdfuse.tracking.track import track as track
