"""Builders of plain Keras models: `build(data, **structure) -> keras.Model`."""

from kdfuse.models.convnet import convnet as convnet
from kdfuse.models.mlp import mlp as mlp
from kdfuse.models.resnet import resnet as resnet
