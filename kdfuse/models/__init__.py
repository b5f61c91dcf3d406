"""Builders of plain Keras models: `build(data, **structure) -> keras.Model`."""

from kdfuse.models.convnet import convnet as convnet
from kdfuse.models.mlp import mlp as mlp
from kdfuse.models.recurrent import recurrent as recurrent
from kdfuse.models.resnet import resnet as resnet
from kdfuse.models.transformer import transformer as transformer
