"""kdfuse: make a trained Keras 3 model smaller, faster or better, and prove it."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kdfuse import recording
from kdfuse.registration import register_with_keras

if TYPE_CHECKING:
    from kdfuse import datasets as datasets
    from kdfuse import models as models
    from kdfuse import runtime as runtime
    from kdfuse.compress.cluster import Cluster as Cluster
    from kdfuse.compress.criteria.activation import ActivationImportance as ActivationImportance
    from kdfuse.compress.criteria.apoz import APoZ as APoZ
    from kdfuse.compress.criteria.batch_norm_scale import BatchNormScale as BatchNormScale
    from kdfuse.compress.criteria.magnitude import Magnitude as Magnitude
    from kdfuse.compress.criteria.norms import L1 as L1
    from kdfuse.compress.criteria.norms import L2 as L2
    from kdfuse.compress.criteria.random import RandomImportance as RandomImportance
    from kdfuse.compress.criteria.taylor import Taylor as Taylor
    from kdfuse.compress.criteria.threshold import Threshold as Threshold
    from kdfuse.compress.criteria.units import UnitCriterion as UnitCriterion
    from kdfuse.compress.criteria.wanda import Wanda as Wanda
    from kdfuse.compress.depth import ShrinkDepth as ShrinkDepth
    from kdfuse.compress.grow import Grow as Grow
    from kdfuse.compress.patterns import Block as Block
    from kdfuse.compress.patterns import NofM as NofM
    from kdfuse.compress.prune import Prune as Prune
    from kdfuse.compress.quantize import Quantize as Quantize
    from kdfuse.compress.quantize_aware import QuantizeAware as QuantizeAware
    from kdfuse.compress.schedules import ConstantSparsity as ConstantSparsity
    from kdfuse.compress.schedules import IterativeSparsity as IterativeSparsity
    from kdfuse.compress.schedules import PolynomialSparsity as PolynomialSparsity
    from kdfuse.compress.shrink import Shrink as Shrink
    from kdfuse.data import Data as Data
    from kdfuse.distill.assistants import AssistantChain as AssistantChain
    from kdfuse.distill.cache import Cache as Cache
    from kdfuse.distill.distill import Distill as Distill
    from kdfuse.distill.generations import BornAgain as BornAgain
    from kdfuse.distill.losses.attention_transfer import AttentionTransfer as AttentionTransfer
    from kdfuse.distill.losses.base import Loss as Loss
    from kdfuse.distill.losses.crd import CRD as CRD
    from kdfuse.distill.losses.dist import DIST as DIST
    from kdfuse.distill.losses.dkd import DKD as DKD
    from kdfuse.distill.losses.features import FeatureLoss as FeatureLoss
    from kdfuse.distill.losses.hard_labels import HardLabels as HardLabels
    from kdfuse.distill.losses.hints import Hints as Hints
    from kdfuse.distill.losses.logit_standardization import LogitStandardization as LogitStandardization
    from kdfuse.distill.losses.logits_mse import LogitsMSE as LogitsMSE
    from kdfuse.distill.losses.nst import NST as NST
    from kdfuse.distill.losses.pkt import PKT as PKT
    from kdfuse.distill.losses.review_kd import ReviewKD as ReviewKD
    from kdfuse.distill.losses.rkd import RKD as RKD
    from kdfuse.distill.losses.similarity_preserving import SimilarityPreserving as SimilarityPreserving
    from kdfuse.distill.losses.soft_targets import SoftTargets as SoftTargets
    from kdfuse.distill.losses.vid import VID as VID
    from kdfuse.distill.mutual import MutualLearning as MutualLearning
    from kdfuse.distill.schedules import Schedule as Schedule
    from kdfuse.distill.schedules import Stop as Stop
    from kdfuse.distill.self_distill import SelfDistill as SelfDistill
    from kdfuse.ensemble.calibrate import Calibrate as Calibrate
    from kdfuse.ensemble.combiners.combiner import Combiner as Combiner
    from kdfuse.ensemble.combiners.geometric_mean import GeometricMean as GeometricMean
    from kdfuse.ensemble.combiners.hard_vote import HardVote as HardVote
    from kdfuse.ensemble.combiners.logit_mean import LogitMean as LogitMean
    from kdfuse.ensemble.combiners.maximum import Max as Max
    from kdfuse.ensemble.combiners.mean import Mean as Mean
    from kdfuse.ensemble.combiners.median import Median as Median
    from kdfuse.ensemble.combiners.trimmed_mean import TrimmedMean as TrimmedMean
    from kdfuse.ensemble.combiners.weighted import Weighted as Weighted
    from kdfuse.ensemble.mixed.gate import Gate as Gate
    from kdfuse.ensemble.mixed.stack import Stack as Stack
    from kdfuse.ensemble.parallel.bagging import Bagging as Bagging
    from kdfuse.ensemble.parallel.batch_ensemble import BatchEnsemble as BatchEnsemble
    from kdfuse.ensemble.parallel.parallel import Parallel as Parallel
    from kdfuse.ensemble.parallel.snapshots import Snapshots as Snapshots
    from kdfuse.ensemble.parallel.soup import Soup as Soup
    from kdfuse.ensemble.parallel.weight_average import WeightAverage as WeightAverage
    from kdfuse.ensemble.serial.boost import Boost as Boost
    from kdfuse.ensemble.serial.cascade import Cascade as Cascade
    from kdfuse.ensemble.serial.chained import Chained as Chained
    from kdfuse.ensemble.serial.early_exits import EarlyExits as EarlyExits
    from kdfuse.export.export import export_model as export_model
    from kdfuse.export.keras_file import save_model as save_model
    from kdfuse.export.lite_model import LiteModel as LiteModel
    from kdfuse.fitting.decay import Constant as Constant
    from kdfuse.fitting.decay import Cosine as Cosine
    from kdfuse.fitting.decay import Exponential as Exponential
    from kdfuse.fitting.decay import Linear as Linear
    from kdfuse.fitting.decay import Plateau as Plateau
    from kdfuse.fitting.decay import Restarts as Restarts
    from kdfuse.fitting.decay import Staircase as Staircase
    from kdfuse.fitting.stopping import Stopping as Stopping
    from kdfuse.recording import silence as silence
    from kdfuse.report import Report as Report
    from kdfuse.report import format_table as format_table
    from kdfuse.search.bayes import BayesSearch as BayesSearch
    from kdfuse.search.estimator import KerasClassifier as KerasClassifier
    from kdfuse.search.estimator import KerasRegressor as KerasRegressor
    from kdfuse.search.grid import GridSearch as GridSearch
    from kdfuse.search.halving import HalvingSearch as HalvingSearch
    from kdfuse.search.random import RandomSearch as RandomSearch
    from kdfuse.search.search_cv import SearchCV as SearchCV
    from kdfuse.search.space import Float as Float
    from kdfuse.search.space import Int as Int
    from kdfuse.seeds import repeat as repeat
    from kdfuse.technique import Chain as Chain
    from kdfuse.technique import Technique as Technique
    from kdfuse.technique import evaluate as evaluate
    from kdfuse.tracking.compare.comparison import compare as compare
    from kdfuse.tracking.registry import load_model as load_model
    from kdfuse.tracking.registry import promote as promote
    from kdfuse.tracking.track import track as track
    from kdfuse.train import Train as Train

__version__ = "0.1.0"

_NAMES = {
    "datasets": "kdfuse.datasets",
    "models": "kdfuse.models",
    "runtime": "kdfuse.runtime",
    "Cluster": "kdfuse.compress.cluster:Cluster",
    "ActivationImportance": "kdfuse.compress.criteria.activation:ActivationImportance",
    "APoZ": "kdfuse.compress.criteria.apoz:APoZ",
    "BatchNormScale": "kdfuse.compress.criteria.batch_norm_scale:BatchNormScale",
    "Magnitude": "kdfuse.compress.criteria.magnitude:Magnitude",
    "L1": "kdfuse.compress.criteria.norms:L1",
    "L2": "kdfuse.compress.criteria.norms:L2",
    "RandomImportance": "kdfuse.compress.criteria.random:RandomImportance",
    "Taylor": "kdfuse.compress.criteria.taylor:Taylor",
    "Threshold": "kdfuse.compress.criteria.threshold:Threshold",
    "UnitCriterion": "kdfuse.compress.criteria.units:UnitCriterion",
    "Wanda": "kdfuse.compress.criteria.wanda:Wanda",
    "ShrinkDepth": "kdfuse.compress.depth:ShrinkDepth",
    "Grow": "kdfuse.compress.grow:Grow",
    "Block": "kdfuse.compress.patterns:Block",
    "NofM": "kdfuse.compress.patterns:NofM",
    "Prune": "kdfuse.compress.prune:Prune",
    "Quantize": "kdfuse.compress.quantize:Quantize",
    "QuantizeAware": "kdfuse.compress.quantize_aware:QuantizeAware",
    "ConstantSparsity": "kdfuse.compress.schedules:ConstantSparsity",
    "IterativeSparsity": "kdfuse.compress.schedules:IterativeSparsity",
    "PolynomialSparsity": "kdfuse.compress.schedules:PolynomialSparsity",
    "Shrink": "kdfuse.compress.shrink:Shrink",
    "Data": "kdfuse.data:Data",
    "AssistantChain": "kdfuse.distill.assistants:AssistantChain",
    "Cache": "kdfuse.distill.cache:Cache",
    "Distill": "kdfuse.distill.distill:Distill",
    "BornAgain": "kdfuse.distill.generations:BornAgain",
    "AttentionTransfer": "kdfuse.distill.losses.attention_transfer:AttentionTransfer",
    "Loss": "kdfuse.distill.losses.base:Loss",
    "CRD": "kdfuse.distill.losses.crd:CRD",
    "DIST": "kdfuse.distill.losses.dist:DIST",
    "DKD": "kdfuse.distill.losses.dkd:DKD",
    "FeatureLoss": "kdfuse.distill.losses.features:FeatureLoss",
    "HardLabels": "kdfuse.distill.losses.hard_labels:HardLabels",
    "Hints": "kdfuse.distill.losses.hints:Hints",
    "LogitStandardization": "kdfuse.distill.losses.logit_standardization:LogitStandardization",
    "LogitsMSE": "kdfuse.distill.losses.logits_mse:LogitsMSE",
    "NST": "kdfuse.distill.losses.nst:NST",
    "PKT": "kdfuse.distill.losses.pkt:PKT",
    "ReviewKD": "kdfuse.distill.losses.review_kd:ReviewKD",
    "RKD": "kdfuse.distill.losses.rkd:RKD",
    "SimilarityPreserving": "kdfuse.distill.losses.similarity_preserving:SimilarityPreserving",
    "SoftTargets": "kdfuse.distill.losses.soft_targets:SoftTargets",
    "VID": "kdfuse.distill.losses.vid:VID",
    "MutualLearning": "kdfuse.distill.mutual:MutualLearning",
    "Schedule": "kdfuse.distill.schedules:Schedule",
    "Stop": "kdfuse.distill.schedules:Stop",
    "SelfDistill": "kdfuse.distill.self_distill:SelfDistill",
    "export_model": "kdfuse.export.export:export_model",
    "save_model": "kdfuse.export.keras_file:save_model",
    "LiteModel": "kdfuse.export.lite_model:LiteModel",
    "Constant": "kdfuse.fitting.decay:Constant",
    "Cosine": "kdfuse.fitting.decay:Cosine",
    "Exponential": "kdfuse.fitting.decay:Exponential",
    "Linear": "kdfuse.fitting.decay:Linear",
    "Plateau": "kdfuse.fitting.decay:Plateau",
    "Staircase": "kdfuse.fitting.decay:Staircase",
    "Stopping": "kdfuse.fitting.stopping:Stopping",
    "silence": "kdfuse.recording:silence",
    "Report": "kdfuse.report:Report",
    "format_table": "kdfuse.report:format_table",
    "repeat": "kdfuse.seeds:repeat",
    "Chain": "kdfuse.technique:Chain",
    "Technique": "kdfuse.technique:Technique",
    "Bagging": "kdfuse.ensemble.parallel.bagging:Bagging",
    "BatchEnsemble": "kdfuse.ensemble.parallel.batch_ensemble:BatchEnsemble",
    "Snapshots": "kdfuse.ensemble.parallel.snapshots:Snapshots",
    "Soup": "kdfuse.ensemble.parallel.soup:Soup",
    "WeightAverage": "kdfuse.ensemble.parallel.weight_average:WeightAverage",
    "Parallel": "kdfuse.ensemble.parallel.parallel:Parallel",
    "Combiner": "kdfuse.ensemble.combiners.combiner:Combiner",
    "Mean": "kdfuse.ensemble.combiners.mean:Mean",
    "Weighted": "kdfuse.ensemble.combiners.weighted:Weighted",
    "GeometricMean": "kdfuse.ensemble.combiners.geometric_mean:GeometricMean",
    "LogitMean": "kdfuse.ensemble.combiners.logit_mean:LogitMean",
    "Median": "kdfuse.ensemble.combiners.median:Median",
    "TrimmedMean": "kdfuse.ensemble.combiners.trimmed_mean:TrimmedMean",
    "Max": "kdfuse.ensemble.combiners.maximum:Max",
    "HardVote": "kdfuse.ensemble.combiners.hard_vote:HardVote",
    "Calibrate": "kdfuse.ensemble.calibrate:Calibrate",
    "Cascade": "kdfuse.ensemble.serial.cascade:Cascade",
    "EarlyExits": "kdfuse.ensemble.serial.early_exits:EarlyExits",
    "Boost": "kdfuse.ensemble.serial.boost:Boost",
    "Chained": "kdfuse.ensemble.serial.chained:Chained",
    "Stack": "kdfuse.ensemble.mixed.stack:Stack",
    "Gate": "kdfuse.ensemble.mixed.gate:Gate",
    "BayesSearch": "kdfuse.search.bayes:BayesSearch",
    "GridSearch": "kdfuse.search.grid:GridSearch",
    "HalvingSearch": "kdfuse.search.halving:HalvingSearch",
    "RandomSearch": "kdfuse.search.random:RandomSearch",
    "Float": "kdfuse.search.space:Float",
    "Int": "kdfuse.search.space:Int",
    "KerasClassifier": "kdfuse.search.estimator:KerasClassifier",
    "KerasRegressor": "kdfuse.search.estimator:KerasRegressor",
    "SearchCV": "kdfuse.search.search_cv:SearchCV",
    "Restarts": "kdfuse.fitting.decay:Restarts",
    "evaluate": "kdfuse.technique:evaluate",
    "compare": "kdfuse.tracking.compare.comparison:compare",
    "load_model": "kdfuse.tracking.registry:load_model",
    "promote": "kdfuse.tracking.registry:promote",
    "track": "kdfuse.tracking.track:track",
    "Train": "kdfuse.train:Train",
}

_LIGHT = {"datasets", "runtime", "Data", "silence", "Report", "compare", "format_table", "track"}
"""Names that load neither Keras nor TensorFlow."""

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        from kdfuse.settings import suggest

        raise AttributeError(f"kdfuse has no {name!r}. {suggest(name, _NAMES)}")
    module, _, attribute = _NAMES[name].partition(":")
    if name not in _LIGHT and "keras" not in sys.modules:
        from kdfuse.runtime import tensorflow

        tensorflow()  # quietly, before Keras loads it with all its lines
    found = import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _default_recorder() -> recording.Recorder:
    from kdfuse.tracking.mlflow_recorder import MlflowRecorder

    return MlflowRecorder()


recording.set_default(_default_recorder)
register_with_keras()
