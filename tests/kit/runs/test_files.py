import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from esscher.errors import DataError, NumericsError
from esscher.kit.runs.files import json_ready, read_json, read_rows, write_atomic, write_json


class Number:
    def to_json(self):
        return {"mean": np.float64(0.5), "n": 3}


def test_everything_with_a_json_form_is_accepted():
    value = {
        "a": torch.tensor([1, 2]),
        "b": np.float32(0.5),
        "c": {3, 1},
        "d": Path("x/y"),
        "e": [Number(), None, True, ("t",)],
    }
    ready = json_ready(value)
    assert json.loads(json.dumps(ready)) == {
        "a": [1, 2],
        "b": 0.5,
        "c": [1, 3],
        "d": "x/y",
        "e": [{"mean": 0.5, "n": 3}, None, True, ["t"]],
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float64("nan"), torch.tensor(-math.inf)])
def test_numbers_that_are_not_finite_are_named(bad):
    with pytest.raises(NumericsError, match=r"result\.kl\[1\] is -?(nan|inf)"):
        json_ready({"kl": [0.0, bad]}, "result")


def test_what_has_no_json_form_is_named():
    with pytest.raises(DataError, match=r"result\.model is a object"):
        json_ready({"model": object()}, "result")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_file_that_is_no_json_object_is_named(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"result\.json"):
        read_json(path)


def test_a_line_cut_off_by_a_crash_is_skipped_and_a_wrong_one_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_rows(path, lambda row: row["step"] > 1) == [{"step": 2}]
    path.write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2 is not JSON"):
        read_rows(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="is not a JSON object"):
        read_rows(path)
