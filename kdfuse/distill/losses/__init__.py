"""The distillation losses, one paper a file."""

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
