import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.search.candidate import Choice
from kdfuse.search.goals import make_goals
from kdfuse.search.ledger import Ledger
from kdfuse.search.progress import Progress
from kdfuse.search.session import Session


@pytest.fixture()
def session(data, tmp_path):
    choice = Choice(kf.Train(epochs=1), {"build__units": [4, 8, 16, 32]}, kf.models.mlp)
    goals = make_goals("accuracy", "macs", {"parameters": 1_500}, data)
    return Session(choice, goals, data.with_splits(test=None), Ledger(tmp_path / "ledger"), Progress(None, "validation/accuracy"))


def candidates(session):
    return [session.choice.from_values(place, values) for place, values in enumerate(session.choice.space.grid(3))]


def test_models_of_the_front_are_kept_and_no_others(session):
    with session:
        trials = [session.open(candidate) for candidate in candidates(session)]
        assert trials[3] is None and session.refused == {"parameters": 1}
        session.advance(trials[:3])
    assert [trial.status for trial in trials[:3]] == ["finished"] * 3
    on = {trial.number for trial in session.front()}
    assert {path.stem for path in (session.ledger.folder / "models").glob("*.keras")} == {f"trial-{number}" for number in on}
    best = max(trial.metrics["validation/accuracy"] for trial in trials[:3])
    assert session.best[-1] == best and session.front()[0].metrics["validation/accuracy"] == best
    assert session.model(session.front()[0]).count_params() == session.front()[0].metrics["size/parameters"]


def test_what_ended_comes_back_and_a_lost_model_runs_again(session, data):
    with session:
        session.advance([session.open(candidate) for candidate in candidates(session)[:3]])
    first = session.front()[0].number

    def again():
        ledger = Ledger(session.ledger.folder)
        new = Session(session.choice, session.goals, session.data, ledger, session.progress)
        with new:
            return new, [new.open(candidate) for candidate in candidates(new)[:3]]

    new, trials = again()
    assert new.resumed == 3 and [trial.metrics for trial in trials] == [trial.metrics for trial in session.trials]
    session.ledger.model(first).unlink()
    new, trials = again()
    assert new.resumed == 2 and trials[first].status == "open"


def test_runs_that_are_open_when_a_search_dies_are_killed(session):
    with recording.use(recording.Memory()) as memory, pytest.raises(KeyboardInterrupt), session:
        session.open(candidates(session)[0])
        raise KeyboardInterrupt
    assert [arguments[1] for hook, arguments in memory.events if hook == "end"] == ["killed"]


def test_no_trial_is_hopeless_where_its_size_may_bring_it_to_the_front(session, data):
    for minimize, stops in ((None, True), ("log_loss", True), ("parameters", False)):
        goals = make_goals("accuracy", minimize, None, data)
        one = Session(session.choice, goals, data, session.ledger, session.progress, stop_hopeless=True)
        assert one.stop_hopeless is stops


def test_when_the_time_is_up_nothing_begins(session):
    session.over = lambda: True
    with session:
        trial = session.open(candidates(session)[0])
        session.advance([trial])
        assert trial.status == "open" and trial.epochs is None
