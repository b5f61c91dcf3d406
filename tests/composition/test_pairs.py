"""One technique after another: every ordered pair runs on every kind of model, or is refused with a reason before it trains.

Each technique is applied once to each kind of model, and what it gives is given to every other: all that must refuse do, all others check
it, and a quarter of them run, on another quarter for each kind of model, so that every pair runs on one kind. Of those a share runs as a
real `Chain`.
"""

import pytest

import kdfuse as kf
from kdfuse import recording

TAKE_SEVERAL = {"MutualLearning", "Parallel", "Soup", "Cascade", "Chained", "Stack", "Gate"}
GIVE_SEVERAL = {"BornAgain", "MutualLearning", "Repeat"}
WRAPPED = {"Parallel", "Cascade", "Chained", "Stack", "Gate", "Bagging", "Snapshots", "Boost"}
"""What they give has the models that were given inside it, as layers."""
REFUSED = [
    # kinds of model and first techniques (None for all, and for the plain model), second ones (None for all), and their reason
    ({"outputs"}, None, {"SelfDistill"}, "`model`: expected one output .batch, classes., .* Received: several outputs"),
    ({"outputs"}, None, {"Boost", "EarlyExits"}, "`data` of .*: expected one output of classes.* Received: the task"),
    (None, {"Boost"}, {"Quantize", "Calibrate"}, None),  # they train nothing
    (None, {"Boost"}, None, "`model`: .* decides by votes .*, and no gradient gets past them"),
    (None, WRAPPED, {"SelfDistill"}, "`exits`: .* is ambiguous: .* Give the whole path"),
    (None, WRAPPED | {"Calibrate", "EarlyExits"}, {"EarlyExits"}, "`at`: expected names of layers of .* It has: "),
    (None, WRAPPED | {"Calibrate", "EarlyExits"}, {"ShrinkDepth"}, "`model`: .* has no block .* Use kdfuse.Shrink"),
    ({"mlp", "outputs", "attention"}, {"ShrinkDepth"}, {"ShrinkDepth"}, "`model`: .* has no block .* Use kdfuse.Shrink"),
    (None, {"EarlyExits"}, {"SelfDistill"}, "`model`: expected one tensor of features before its head"),
    (None, {"BatchEnsemble"}, {"SelfDistill"}, "`exits`: expected features with a row for each row of the input.* 4 rows for 2"),
    (None, {"BatchEnsemble"}, {"EarlyExits"}, "`at`: expected layers with a row for each row of the input.* 4 rows for 2"),
    (None, {"BatchEnsemble"}, {"BatchEnsemble"}, "of BatchEnsemble: expected a trainable Dense or Conv2D layer.* Use kdfuse.Bagging"),
    ({"mlp", "residual", "outputs"}, {"BatchEnsemble"}, {"Shrink"}, "`model`: .* has no unit that may go. .* Shrink what it was made from"),
    ({"mlp", "residual", "outputs"}, {"BatchEnsemble"}, {"Grow"}, "`model`: .* has no layer that may grow. .* Grow what it was made from"),
    ({"mlp", "residual", "outputs"}, {"BatchEnsemble"}, {"Cluster"}, "`model`: it has no layer with a kernel that can be clustered"),
    (None, {"EarlyExits"}, {"Shrink"}, "`model`: .* has no unit that may go. .* read by 'ask_2'"),
    (None, {"EarlyExits"}, {"Grow"}, "`model`: .* has no layer that may grow. .* read by 'ask_2'"),
]


def refusal(kind: str, first: str, second: str) -> str | None:
    """The reason for which `second` refuses what `first` gives, as a pattern; with no first technique the plain model."""
    for kinds, firsts, seconds, reason in REFUSED:
        if (kinds is None or kind in kinds) and (firsts is None or first in firsts) and (seconds is None or second in seconds):
            return reason
    return None


def test_every_technique_of_the_package_is_here(names):
    for public in kf.__all__:
        getattr(kf, public)  # loads the file that defines it

    def leaves(kind):
        below = [one for one in kind.__subclasses__() if one.__module__.startswith("kdfuse.")]
        return set().union(*map(leaves, below)) if below else {kind.__name__}

    assert leaves(kf.Technique) == set(names)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_pair(kind, name, names, case_of, works):
    case, first, place = case_of(kind), case_of(kind).technique(name), names.index(name)
    given = case.models if name in TAKE_SEVERAL else case.model
    reason = refusal(kind, "", name)
    if reason is not None:
        for second in [one for one in names if (one in TAKE_SEVERAL) == (name in GIVE_SEVERAL)]:
            refuses(kf.Chain([first, case.technique(second)]), given, case, reason)
        return
    made, report = first(given, case.data)
    works(made, report, case.data)
    for number, second in enumerate(names):
        technique, turn = case.technique(second), number + place
        reason = refusal(kind, name, second)
        if (second in TAKE_SEVERAL) != (name in GIVE_SEVERAL):
            with pytest.raises(TypeError, match=f"`techniques`: {second} takes .* and {name} before it gives"):
                kf.Chain([first, technique])
        elif reason is not None:
            refuses(technique, made, case, reason)
        elif turn % 4 != case.place:
            technique.check(technique.given(made, case.data), case.data)
        else:
            try:
                chained = turn // 4 % 4 == 0
                works(*(kf.Chain([first, technique])(given, case.data) if chained else technique(made, case.data)), case.data)
            except ValueError as error:  # a stack of hardly trained networks may be born anew no better than chance
                if second != "Boost" or "no better than chance" not in str(error):
                    raise


def refuses(technique, given, case, reason):
    """Fails unless the technique gives this reason before a run begins, so before anything is trained."""
    memory = recording.Memory()
    with recording.use(memory), pytest.raises((TypeError, ValueError), match=reason):
        technique(given, case.data)
    assert memory.events == []
