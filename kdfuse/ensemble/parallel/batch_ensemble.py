"""BatchEnsemble: several members in one model that share its kernels, for the parameters of about one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.ensemble import beside
from kdfuse.ensemble.grown import Grown, check_count
from kdfuse.ensemble.joined import inputs_for
from kdfuse.ensemble.members import Member, free_name, output_names
from kdfuse.ensemble.parallel.fast_weights import LINEAR, FastWeights, ForMembers, OverMembers
from kdfuse.ensemble.parallel.training import check_training, innermost, with_train
from kdfuse.ensemble.values import Probabilities
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head
from kdfuse.graph.nodes import graph_of
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer


@settings
class BatchEnsemble(Grown):
    """Make an ensemble of one model whose members share its Dense and Conv2D kernels, and train it.

    Member m multiplies each kernel by `r_m s_m^T`, two vectors that are its own, as is its bias; they begin as random signs, the kernels
    as they are given. Every other layer is shared by the members, BatchNorm with its statistics among them, and so are layers that are
    frozen. In training a row goes to one member, so an epoch costs what it costs one model, and each member sees `1 / members` of the
    rows: the paper trains for 1.5 times the epochs. In inference all members run on all rows, in one graph, and their mean probability
    (of a regression, value) comes out: `members` times the operations.

    The baselines `member 1` ... are the members as plain models of the given structure. Wen, Tran, Ba, 2020, "BatchEnsemble: An Alternative
    Approach to Efficient Ensemble and Lifelong Learning" (arXiv 2002.06715).

    Attributes:
        members: how many, at least 2 and at most the rows of a batch.
        training: how to fit, `Train(...)` or `Distill(teacher)`; its seed is also that of the signs.
    """

    members: int = 4
    training: Trainer = Train()

    def __post_init__(self) -> None:
        check_count("members", self.members, 2)
        check_training(self.training)
        batch = innermost(self.training).batch_size
        if self.members > batch:
            raise ValueError(f"`members`: expected at most the {batch} rows of a batch, of which each member gets its share. "
                             f"Received: members={self.members}. Give Train(batch_size={self.members}) or more.")  # fmt: skip

    def check(self, model: keras.Model, data: Data) -> None:
        if any(getattr(one, "from_logits", False) for one in keras.tree.flatten(innermost(self.training).loss)):
            raise ValueError("`training`: a BatchEnsemble gives probabilities. Received: a `loss` with from_logits=True. Give loss='auto'.")
        self._training.check(build(model, data, self.members, innermost(self.training)).model, data)

    def apply(self, model: keras.Model, data: Data) -> Result:
        made = build(model, data, self.members, innermost(self.training))
        student = self._training.private(made.model, data)
        fitted = self._training.fit(student, data)
        public = self._training.public(student, data)
        members = [member_of(public, model, place, made.names, data) for place in range(self.members)]
        result = Result(public, fitted.history, baselines=beside(members))
        result.notes = ["Training curves are those of single members, validation curves those of their mean.", *fitted.notes]
        result.heads = dict.fromkeys(result.baselines, innermost(self.training).head)
        shared = [name for name in made.names if name and public.get_layer(name).weights and name not in made.fast]
        if shared:
            result.notes.append(f"Shared by all members: {', '.join(shared)}.")
        return result

    @property
    def _training(self) -> Any:
        return with_train(self.training, head="auto")  # the declared head is that of the members, not of their mean


class Built(NamedTuple):
    """A model made for members.

    Attributes:
        model: the ensemble.
        names: for each layer of the given model, in the order of `_flatten_layers`, its name in the ensemble; empty for a container.
        fast: the names of the layers with fast weights.
    """

    model: keras.Model
    names: list[str]
    fast: list[str]


def build(model: keras.Model, data: Data, members: int, training: Train) -> Built:
    """An untrained BatchEnsemble with the weights of a model as shared weights.

    Args:
        model: a Functional or Sequential model; it is only read.
        data: for the inputs and the task.
        members: how many.
        training: for its seed and its head.

    Raises:
        ValueError: the model has no graph, or no Dense or Conv2D layer that can be shared.
    """
    example = data.example(4)
    copied = copy_model(model, example)
    if graph_of(copied) is None:
        raise ValueError(f"`model` of BatchEnsemble: expected a Functional or Sequential model. Received: {type(model).__name__}.")
    head = detect_head(copied, data.task, example, training.head)
    outputs = copied(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
    if any(getattr(one, "_keras_mask", None) is not None for one in keras.tree.flatten(outputs)):
        raise ValueError("`model` of BatchEnsemble: expected outputs without a mask for their steps. Received: masked sequences.")
    ends = list(graph_of(copied).output_names)
    if len(set(ends)) < len(ends):  # several outputs of one layer, as a cascade's
        ends = output_names(Member(copied, head, outputs))
    making = _Making(members, training.seed, taken={"over_members", *(ends if len(ends) > 1 else [])})
    inputs = inputs_for([copied], data)
    repeated = keras.tree.map_structure(lambda x: ForMembers(members, dtype=x.dtype, name=making.free("for_members"))(x), inputs)
    structure = making.run(copied, repeated)
    if not making.fast:
        raise ValueError(
            "`model` of BatchEnsemble: expected a trainable Dense or Conv2D layer, whose kernel the members share. Received: none in "
            f"{model.name!r}. Use kdfuse.Bagging."
        )
    leaves = keras.tree.flatten(structure)
    heads = [head] * len(leaves) if isinstance(head, str) else keras.tree.flatten(head)
    joined = [
        OverMembers(members, name=end if len(leaves) > 1 else "over_members")(Probabilities(one)(leaf))
        for leaf, one, end in zip(leaves, heads, ends, strict=True)
    ]
    shaped = keras.tree.pack_sequence_as(outputs, joined) if keras.tree.is_nested(outputs) else joined[0]
    whole = keras.Model(inputs, shaped, name=model.name)
    if all(one not in ("logits", "sigmoid_logits") for one in heads):
        carry_compile(model, whole)  # a loss on logits would not fit the probabilities
    return Built(whole, [making.names.get(id(layer), "") for layer in copied._flatten_layers()], making.fast)


def member_of(ensemble: keras.Model, model: keras.Model, place: int, names: Sequence[str], data: Data) -> keras.Model:
    """One member of a BatchEnsemble as a plain model of the structure that was given.

    Args:
        ensemble: the BatchEnsemble.
        model: what it was made of.
        place: of the member, from 0.
        names: as in `Built`.
        data: for the inputs.
    """
    member = copy_model(model, data.example(2))
    for layer, name in zip(member._flatten_layers(), names, strict=True):
        if not name:
            continue
        trained = ensemble.get_layer(name)
        if isinstance(trained, FastWeights):
            bias = [trained.bias_of(place)] if trained.use_bias else []
            layer.set_weights([trained.kernel_of(place), *bias])
        else:
            layer.set_weights(trained.get_weights())
    return member


class _Making:
    """Runs a graph again, with fast weights in the place of Dense and Conv2D layers; nested models become part of it."""

    def __init__(self, members: int, seed: int, taken: set[str]) -> None:
        self.members, self.taken = members, taken
        self.rng = np.random.default_rng(seed)
        self.memo: dict[int, Any] = {}
        self.names: dict[int, str] = {}
        self.fast: list[str] = []

    def run(self, model: Any, inputs: Any) -> Any:
        graph, flat = graph_of(model), keras.tree.flatten(inputs)
        given = keras.tree.pack_sequence_as(graph.input, flat) if keras.tree.is_nested(graph.input) else flat[0]
        return graph._run_through_graph(given, operation_fn=self.operation)

    def operation(self, operation: Any) -> Any:
        if isinstance(operation, keras.Model) and graph_of(operation) is not None:
            return lambda inputs, *rest, **named: self.run(operation, inputs)
        if id(operation) not in self.memo:
            name = self.free(operation.name)
            self.memo[id(operation)] = self.fast_weights(operation, name) if _splits(operation) else operation
            operation.name = name
            self.names[id(operation)] = name
        return self.memo[id(operation)]

    def fast_weights(self, layer: Any, name: str) -> FastWeights:
        config = {**layer.get_config(), "use_bias": False, "activation": None, "name": "shared"}
        plain = type(layer).from_config(config)
        seed = int(self.rng.integers(2**30))
        made = FastWeights(plain, self.members, layer.activation, layer.use_bias, seed, name=name, dtype=layer.dtype_policy)
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        made.build((None, *layer.get_build_config()["input_shape"][1:]))
        plain.kernel.assign(kernel)
        if made.b is not None:
            made.b.assign(np.tile(keras.ops.convert_to_numpy(layer.bias), self.members))
        self.fast.append(name)
        return made

    def free(self, name: str) -> str:
        return free_name(name, self.taken)


def _splits(operation: Any) -> bool:
    """Whether members have fast weights in a layer."""
    if type(operation) not in LINEAR or not operation.trainable:
        return False
    return getattr(operation, "quantization_mode", None) is None and not getattr(operation, "lora_enabled", False)
