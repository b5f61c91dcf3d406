import keras
import numpy as np

from kdfuse import recording
from kdfuse.fitting.history import History, curve


def test_names_follow_the_vocabulary():
    assert curve("val_accuracy") == "validation/accuracy" and curve("soft_targets_loss") == "train/soft_targets_loss"


def test_one_event_an_epoch_with_every_curve():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse", metrics=["mae"])
    memory = recording.Memory()
    with recording.use(memory), recording.run("r"):
        history = History(True)
        validation = (np.ones((2, 2)), np.ones((2, 1)))
        model.fit(np.ones((4, 2)), np.ones((4, 1)), validation_data=validation, epochs=2, verbose=0, callbacks=[history])
    logs = [arguments for hook, arguments in memory.events if hook == "log"]
    assert [step for _, _, step, _ in logs] == [0, 1]
    assert set(logs[0][1]) == {"train/loss", "train/mae", "validation/loss", "validation/mae", "train/learning_rate"}
    assert history.values["train/learning_rate"] == [0.25, 0.25]
    assert history.values["train/loss"] == [values["train/loss"] for _, values, _, _ in logs]


def test_a_second_training_of_a_run_is_logged_behind_the_first():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    memory = recording.Memory()
    with recording.use(memory), recording.run("r"):
        for epochs in (2, 3):
            history = History(False)
            model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[history])
            history.close()
    assert [arguments[2] for hook, arguments in memory.events if hook == "log"] == [0, 1, 2, 3, 4]
