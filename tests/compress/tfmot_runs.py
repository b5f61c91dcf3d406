"""Trains models with TFMOT's own pruning and writes what comes out: run as a program, since it needs tf_keras for itself.

python tfmot_runs.py cases.json given.npz made.npz
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import prune, pruning_callbacks, pruning_schedule, pruning_wrapper

layers = tf_keras.layers


def net(kind):
    if kind == "mlp":
        return tf_keras.Sequential([layers.Input((20,)), layers.Dense(32, "relu"), layers.Dense(24, "relu"), layers.Dense(4)])
    convolutions = [layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(12, 3, activation="relu")]
    return tf_keras.Sequential([layers.Input((8, 8, 4)), *convolutions, layers.Flatten(), layers.Dense(4)])


def main():
    cases, given, made = json.loads(Path(sys.argv[1]).read_text()), np.load(sys.argv[2]), {}
    for name, case in cases.items():
        model = net(case["net"])
        model.set_weights([given[f"{case['net']}_{place}"] for place in range(len(model.get_weights()))])
        schedule = getattr(pruning_schedule, case["schedule"])(**case["settings"])
        pattern = {"block_size": tuple(case["block"])} if "block" in case else {}
        pattern |= {"block_pooling_type": case["pooling"]} if "pooling" in case else {}
        pattern |= {"sparsity_m_by_n": tuple(case["m_by_n"])} if "m_by_n" in case else {}
        wrapped = prune.prune_low_magnitude(model, pruning_schedule=schedule, **pattern)
        optimizer = {"adam": tf_keras.optimizers.Adam, "sgd": tf_keras.optimizers.SGD, "momentum": tf_keras.optimizers.SGD}
        more = {"momentum": 0.9} if case["optimizer"] == "momentum" else {}
        wrapped.compile(optimizer[case["optimizer"]](case["rate"], **more), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = given[f"{case['net']}_x"], given["y"]
        wrapped.fit(x, y, batch_size=16, epochs=case["epochs"], shuffle=False, verbose=0, validation_data=(x[:32], y[:32]),
                    callbacks=[pruning_callbacks.UpdatePruningStep()])  # fmt: skip
        pruned = [variables for layer in pruning_wrapper.collect_prunable_layers(wrapped) for variables in layer.pruning_vars]
        for place, (weight, mask, _) in enumerate(pruned):
            made |= {f"{name}/{place}/weight": weight.numpy(), f"{name}/{place}/mask": mask.numpy()}
    if len(sys.argv) > 4:
        kinds = {"PolynomialDecay": (0.1, 0.87, 3, 203, 3, 1), "ConstantSparsity": (0.6, 3, 203, 4)}
        for name, values in kinds.items():
            schedule = getattr(pruning_schedule, name)(*values)
            asked = [schedule(tf.constant(step, tf.int64)) for step in range(1, 230)]
            made |= {f"{name}/due": np.array([one[0] for one in asked]), f"{name}/sparsity": np.array([one[1] for one in asked])}
    np.savez(sys.argv[3], **made)


if __name__ == "__main__":
    main()
