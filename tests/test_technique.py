import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert
from kdfuse.home import home
from kdfuse.keys import run_key, state_folder
from kdfuse.report import Report
from kdfuse.settings import settings
from kdfuse.technique import Chain, Result, Technique
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
DATA = Data(train=(X[:200], Y[:200]), validation=(X[200:300], Y[200:300]), test=(X[300:400], Y[300:400]), name="digits")


def net(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(10)])


@settings
class Scale(Technique):
    """Multiplies every weight."""

    by: float = 1.0

    def apply(self, model, data):
        if self.by < 0:
            raise ArithmeticError("on purpose")
        copy = keras.models.clone_model(model)
        copy.set_weights([self.by * weight for weight in model.get_weights()])
        return Result(copy, notes=["scaled"], baselines={"teacher": model})


def test_a_call_is_a_run_that_is_measured_and_recorded():
    memory = recording.Memory()
    with recording.use(memory):
        model, report = Scale(2.0)(net(), DATA, name="twice")
    hooks = [hook for hook, _ in memory.events]
    assert hooks == ["start", "model", "end"]
    run = memory.events[0][1][0]
    assert run.name == "twice" and run.technique == "Scale" and run.settings == {"by": 2.0} and run.tags["data"] == "digits"
    assert memory.events[-1][1][1] == "finished" and memory.events[-1][1][2] is report
    assert memory.events[1][1][1] is model and len(memory.events[1][1][2]) == 8
    assert {"validation/accuracy", "test/macro_f1", "size/parameters", "cost/macs", "latency/p50_ms", "kd/agreement"} <= set(report.metrics)
    assert report.metrics["size/parameters"] == 64 * 8 + 8 + 80 + 10 and report.metrics["cost/macs"] == 64 * 8 + 80
    assert report.metrics["delta/teacher/size/parameters"] == 0
    assert report.metrics["delta/teacher/test/log_loss"] == pytest.approx(
        report["test/log_loss"] - report.tables["models"][1]["test/log_loss"]
    )
    assert [row["model"] for row in report.rows()] == ["model", "teacher"] and report.rows()[1]["kd/agreement"] == 1.0
    assert "scaled" in str(report) and "agreement" in str(report) and report.seconds > 0
    assert Report.from_json(report.to_json()).metrics == report.metrics


def test_the_figures_are_those_that_numpy_finds():
    model, report = Scale(1.0)(net(), DATA)
    predicted = np.asarray(model(X[300:400])).argmax(-1)
    assert report["test/accuracy"] == pytest.approx(np.mean(predicted == Y[300:400]))
    assert report["validation/accuracy"] == pytest.approx(np.mean(np.asarray(model(X[200:300])).argmax(-1) == Y[200:300]))


def test_an_error_fails_the_run_and_goes_on_to_the_caller():
    memory = recording.Memory()
    with recording.use(memory), pytest.raises(ArithmeticError):
        Scale(-1.0)(net(), DATA)
    assert memory.events[-1][0] == "end" and memory.events[-1][1][1:3] == ("failed", None)


def test_a_chain_hands_each_model_on_and_its_steps_are_child_runs():
    memory = recording.Memory()
    model = net()
    with recording.use(memory):
        last, report = Chain([Scale(2.0), Scale(3.0)])(model, DATA)
    for ours, theirs in zip(last.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, 6 * theirs, rtol=1e-6)
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    assert [run.name for run in runs] == ["Chain", "1. Scale", "2. Scale"] and runs[1].parent is runs[0] is runs[2].parent
    assert [child.name for child in report.children] == ["1. Scale", "2. Scale"] and len(report.tables["steps"]) == 2
    assert report.settings["techniques__1__by"] == 3.0
    assert not list(home("state").glob("*"))


def test_a_chain_of_nothing_or_of_something_else_raises():
    for steps in ([], [Scale], [lambda model, data: model]):
        with pytest.raises(TypeError, match="`techniques`"):
            Chain(steps)


@settings
class Picky(Technique):
    """Refuses every model."""

    def check(self, model, data):
        raise ValueError("not this model")


@settings
class Same(Scale):
    keeps_structure = True


def test_a_chain_refuses_a_step_before_those_that_keep_the_structure_begin():
    def begun(*steps, model=None):
        memory = recording.Memory()
        with recording.use(memory), pytest.raises(ValueError, match="not this model"):
            Chain([*steps, Picky()])(model or net(), DATA)
        return [arguments[0].name for hook, arguments in memory.events if hook == "start"]

    assert begun(Same(), Chain([Same(), Same()])) == []
    assert begun(Same(), Scale()) == ["Chain", "1. Same", "2. Scale"]
    assert begun(Chain([Same(), Scale()])) == ["Chain", "1. Chain", "1. Same", "2. Scale"]
    unbuilt = keras.Sequential([keras.layers.Dense(10)])
    assert begun(Same(), model=unbuilt) == ["Chain", "1. Same"], "what a model without weights will be, shows later"


@settings
class Halves(Technique):
    """Gives each model halved, and measured by a child run where asked."""

    takes_models = True
    gives_models = True
    chosen: int | None = None
    measured: bool = False

    def apply(self, model, data):
        made, reports = [], {}
        for place, one in enumerate(model):
            half, report = Scale(0.5)(one, data, name=f"half {place}") if self.measured else (Scale(0.5).apply(one, data).model, None)
            made.append(half)
            reports |= {f"half {place}": report} if report else {}
        rows = tuple(f"half {place}" for place in range(len(made)))
        baselines = {"control 0": model[0], "control 1": model[1], "whole": model[0]}
        return Result(tuple(made), rows=rows, chosen=self.chosen, reports=reports, baselines=baselines)


@pytest.mark.parametrize("chosen", [None, 0, 1, -1])
def test_several_models_in_and_out(chosen):
    memory, given = recording.Memory(), [net(0), net(1)]
    with recording.use(memory):
        models, report = Halves(chosen)(given, DATA)
    assert type(models) is tuple and np.array_equal(models[1].layers[0].kernel, 0.5 * given[1].layers[0].kernel)
    rows = {row["model"]: row for row in report.rows()}
    assert list(rows) == ["half 0", "half 1", "control 0", "control 1", "whole"]
    for place, model in enumerate(models):
        right = np.mean(np.asarray(model(X[300:400])).argmax(-1) == Y[300:400])
        assert rows[f"half {place}"]["test/accuracy"] == pytest.approx(right)
    best = int(np.argmax([rows[f"half {place}"]["validation/accuracy"] for place in (0, 1)])) if chosen is None else chosen % 2
    own = rows[f"half {best}"]
    assert report["test/log_loss"] == own["test/log_loss"] and f"those of half {best}" in report.notes[0]
    assert report.metrics["delta/control/test/log_loss"] == pytest.approx(own["test/log_loss"] - rows[f"control {best}"]["test/log_loss"])
    assert report.metrics["delta/whole/test/log_loss"] == pytest.approx(own["test/log_loss"] - rows["whole"]["test/log_loss"])
    assert not [name for name in report.metrics if name.startswith("delta/control ")]
    mean = np.mean([rows[f"half {place}"]["test/log_loss"] for place in (0, 1)])
    assert report.metrics["mean/test/log_loss"] == pytest.approx(mean) and "mean/size/parameters" not in report.metrics
    recorded = [arguments for hook, arguments in memory.events if hook == "model"]
    assert [(arguments[1], arguments[3]) for arguments in recorded] == [(models[0], "half_0"), (models[1], "half_1")]


def test_what_a_child_run_measured_and_recorded_is_not_measured_again(monkeypatch):
    from kdfuse import technique

    measured, measure = [], technique.measure
    monkeypatch.setattr(technique, "measure", lambda model, *given, **extra: measured.append(model) or measure(model, *given, **extra))
    memory = recording.Memory()
    with recording.use(memory):
        models, report = Halves(measured=True)([net(0), net(1)], DATA)
    assert [sum(model is one for one in measured) for model in models] == [1, 1]
    runs = {arguments[0].name: arguments[0] for hook, arguments in memory.events if hook == "start"}
    assert runs["Halves"].tags["half_1_run"] == runs["half 1"].id
    assert [arguments[0].name for hook, arguments in memory.events if hook == "model"] == ["half 0", "half 1"]
    assert report.rows()[1]["test/accuracy"] == report.children[1]["test/accuracy"]


def test_the_key_and_the_tags_are_of_all_models():
    keys = {run_key("Halves", {}, models, DATA) for models in ((net(0), net(1)), (net(1), net(0)), (net(0), net(2)), (net(0),), net(0))}
    assert len(keys) == 5 and run_key("Halves", {}, (net(0), net(1)), DATA) in keys
    assert run_key("Halves", {}, (net(0), keras.Sequential([keras.layers.Dense(10)])), DATA) is None
    memory = recording.Memory()
    with recording.use(memory):
        made, _ = Scale(2.0)(net(), DATA)
        Halves()([net(1), made], DATA)
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    assert runs[1].tags["model_1_run"] == runs[0].id and "model_0_run" not in runs[1].tags


def test_several_models_in_a_chain():
    models, report = Chain([Halves(), Halves()])([net(0), net(1)], DATA)
    np.testing.assert_allclose(models[0].layers[0].kernel, 0.25 * net(0).layers[0].kernel, rtol=1e-6)
    assert [row["model"] for row in report.rows()] == ["model 1", "model 2"] and len(report.tables["steps"]) == 2
    for steps in ([Halves(), Scale()], [Scale(), Halves()], [Chain([Halves()]), Scale()]):
        with pytest.raises(TypeError, match="`techniques`: .* takes (one model|several models)"):
            Chain(steps)
    for wrong in (net(), [], None):
        with pytest.raises(TypeError, match="`model` of Halves: expected a list of models"):
            Halves()(wrong, DATA)
    with pytest.raises(TypeError, match="`model` of Scale: expected a keras.Model"):
        Scale()([net(), net()], DATA)


def test_two_trainings_in_one_run_keep_their_checkpoints_apart():
    @settings
    class Twice(Technique):
        def apply(self, model, data):
            training = Train(epochs=1)
            copies = [training.private(model, data) for _ in range(2)]
            for copy in copies:
                training.fit(copy, data)
            folders.append(sorted(path.name for path in state_folder(recording.current().key).iterdir()))
            return Result(copies[-1])

    folders = []
    Twice()(net(), DATA)
    assert folders == [["fit-0", "fit-1"]]


def test_a_run_is_tagged_with_the_runs_that_made_its_models():
    @settings
    class Teach(Technique):
        teacher: keras.Model = None

        def apply(self, model, data):
            return Result(keras.models.clone_model(model))

    memory = recording.Memory()
    with recording.use(memory):
        teacher, _ = Scale(2.0)(net(), DATA)
        first, _ = Teach(teacher)(net(), DATA)
        Teach(net())(first, DATA)
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    assert runs[1].tags["teacher_run"] == runs[0].id and "model_run" not in runs[1].tags
    assert runs[2].tags["model_run"] == runs[1].id and "teacher_run" not in runs[2].tags


@settings
class Lite(Technique):
    """Writes the file of a model; `kind` None leaves the model as it is and writes none."""

    kind: str | None = "dynamic"

    def apply(self, model, data):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        path = home("files", f"{self.kind}.tflite")
        return Result(copy, files={"tflite": save_litert(to_litert(copy, quantize=self.kind), path)} if self.kind else {})


def test_a_lite_file_of_the_result_is_measured_itself():
    model = net()
    _, report = Lite()(model, DATA)
    outputs = LiteModel(report.files["tflite"])(X[300:400])
    assert report.metrics["tflite/accuracy"] == pytest.approx((outputs.argmax(1) == Y[300:400]).mean())
    assert report.metrics["size/tflite_bytes"] == report.files["tflite"].stat().st_size
    assert report.tables["models"][0]["tflite/agreement"] > 0.9 and "latency/tflite_p95_ms" in report.metrics


def test_a_chain_tells_the_file_of_its_last_step_alone():
    _, report = Chain([Lite(None), Lite()])(net(), DATA)
    last = report.children[-1]
    figures = {name for name in last.metrics if "tflite" in name}
    assert figures and {name: report.metrics[name] for name in figures} == {name: last.metrics[name] for name in figures}
    _, report = Chain([Lite(), Lite(None)])(net(), DATA)
    assert report.files == {} and not any("tflite" in name for name in report.metrics) and report.children[0].files
