import pytest

from kdfuse.search.rows import Rows


def fit(run, splits=2):
    """As scikit-learn's: rows in local variables that `evaluate_candidates` closes over."""
    all_candidate_params, all_out, results = [], [], {}

    def evaluate_candidates(params):
        nonlocal results
        all_candidate_params.extend(params)
        all_out.extend({"score": one["a"] + fold} for one in params for fold in range(splits))
        results = form(all_candidate_params, splits, all_out, {})
        return results

    run(evaluate_candidates)
    return results


def form(params, splits, out, more):
    return {"params": list(params), "score": [[out[row * splits + fold]["score"] for fold in range(splits)] for row in range(len(params))]}


def test_rows_are_read_and_put_back_as_if_all_had_been_evaluated():
    kept = []

    def first(evaluate):
        rows = Rows(evaluate, form, 2)
        evaluate([{"a": 1}, {"a": 5}])
        assert len(rows) == 2 and rows.folds(1) == [{"score": 5}, {"score": 6}]
        kept.extend(({"a": value}, rows.folds(place)) for place, value in enumerate((1, 5)))

    def second(evaluate):
        rows = Rows(evaluate, form, 2)
        assert rows.put_back(kept)["score"] == [[1, 2], [5, 6]]
        evaluate([{"a": 7}])
        assert rows.folds(2) == [{"score": 7}, {"score": 8}]

    def third(evaluate):
        Rows(evaluate, form, 2).put_back(kept)

    fit(first)
    assert fit(second) == {"params": [{"a": 1}, {"a": 5}, {"a": 7}], "score": [[1, 2], [5, 6], [7, 8]]}
    assert fit(third) == {"params": [{"a": 1}, {"a": 5}], "score": [[1, 2], [5, 6]]}


def test_another_scikit_learn_is_told():
    with pytest.raises(RuntimeError, match="`storage`: this version of scikit-learn"):
        Rows(lambda params: params, form, 2)
