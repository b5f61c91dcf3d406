"""The distillation losses, one paper a file."""

from kdfuse.distill.losses.base import Loss as Loss
from kdfuse.distill.losses.hard_labels import HardLabels as HardLabels
from kdfuse.distill.losses.logit_standardization import LogitStandardization as LogitStandardization
from kdfuse.distill.losses.logits_mse import LogitsMSE as LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets as SoftTargets
