import warnings

import pytest

from kdfuse.search.ledger import Ledger, ledger


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path))


def test_what_was_put_comes_back(tmp_path):
    first = Ledger(tmp_path / "a")
    first.put({"number": 3, "status": "finished"})
    first.put({"number": 4, "status": "failed"})
    assert Ledger(tmp_path / "a").kept == {3: {"number": 3, "status": "finished"}, 4: {"number": 4, "status": "failed"}}
    assert Ledger(tmp_path / "a", read=False).kept == {}


def test_a_line_that_is_not_whole_is_left_out(tmp_path):
    Ledger(tmp_path / "a").put({"number": 0})
    with open(tmp_path / "a" / "trials.jsonl", "a") as file:
        file.write('{"number": 1, "sta')
    with pytest.warns(UserWarning, match="not whole"):
        assert list(Ledger(tmp_path / "a").kept) == [0]


def test_one_process_holds_a_search():
    with ledger("k" * 40) as (one, notes), ledger("k" * 40) as (other, said):
        assert notes == [] and "Another process" in said[0]
        assert one.folder != other.folder
    assert not other.folder.exists() and one.folder.exists()


def test_a_stream_keeps_nothing():
    with ledger(None) as (one, notes):
        one.put({"number": 0})
        assert "stream" in notes[0] and one.model(1).name == "trial-1.keras"
        one.drop(1)
    assert not one.folder.exists()


def test_a_full_disk_warns(tmp_path):
    kept = Ledger(tmp_path / "a")
    kept._file.mkdir()
    with pytest.warns(UserWarning, match="could not be written down"):
        kept.put({"number": 0})
    with pytest.warns(UserWarning, match="could not be written down"):
        kept.sync()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept._file.rmdir()
        kept.sync()
        kept.put({"number": 0})
        kept.sync()
