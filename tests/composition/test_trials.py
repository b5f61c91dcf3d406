"""Every technique as a trial of a search: as its technique, and as one of several to choose from."""

import pytest

import kdfuse as kf

SEVERAL = {"MutualLearning", "Parallel", "Soup", "Cascade", "Chained", "Stack", "Gate", "BornAgain", "Repeat"}
"""What takes or gives several models is no trial: a trial has one."""
SEARCHES = {"RandomSearch", "GridSearch", "HalvingSearch", "BayesSearch"}
REFUSED = {"outputs": {"SelfDistill": "expected one output", "Boost": "expected one output", "EarlyExits": "expected one output"}}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_technique_is_a_choice_of_the_space(kind, names, case_of, works):
    case, single = case_of(kind), [name for name in names if name not in SEVERAL | SEARCHES]
    space = {"technique": [case.technique(name) for name in single], "build__seed": [1]}
    model, report = kf.GridSearch(kf.Train(), space, minimize="parameters")(case.build, case.data)
    works(model, report, case.data)
    trials = {single[int(row["model"].removeprefix("trial "))]: row for row in report.tables["trials"]}
    assert set(trials) == set(single)
    for name, row in trials.items():
        reason = REFUSED.get(kind, {}).get(name)
        assert row["status"] == ("finished" if reason is None else "failed"), row
        assert reason is None or reason in row["error"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_is_searched_by_itself(name, names, case_of, works):
    case = case_of(("mlp", "residual", "attention")[names.index(name) % 3])
    if name in SEVERAL | SEARCHES:
        reason = "a trial is no search itself" if name in SEARCHES else "a trial has one model"
        for technique, space in ((case.technique(name), {}), (kf.Train(), {"technique": [kf.Train(), case.technique(name)]})):
            with pytest.raises(TypeError, match=reason):
                kf.RandomSearch(technique, {"build__seed": [1], **space}, n_trials=1)
        return
    search = kf.RandomSearch(case.technique(name), {"build__seed": [1, 2]}, n_trials=2)
    model, report = search(case.build, case.data)
    works(model, report, case.data)
    assert report.metrics["search/trials"] == 2 and report.metrics["search/failed"] == 0
