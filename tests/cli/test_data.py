"""`esscher data`, run as a user runs it."""

import json

import pytest

from esscher.cli import main
from esscher.kit.data import registry


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "BESIDE", tmp_path / "beside")
    monkeypatch.setenv("ESSCHER_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        code = 0
        try:
            main(["data", *arguments, "--json"])
        except SystemExit as end:
            code = end.code
        return code, json.loads(capsys.readouterr().out)

    return run


def test_data_sets_are_listed_with_where_they_lie(call, tmp_path):
    code, found = call("list")
    assert code == 0
    (row,) = found["data"]
    assert (row["name"], row["folder"]) == ("statlog", None)
    assert call("get", "--list")[1] == found
    (tmp_path / "statlog").mkdir()
    for name in ("sat.trn", "sat.tst"):
        (tmp_path / "statlog" / name).touch()
    assert call("list")[1]["data"][0]["folder"] == str(tmp_path / "statlog")


def test_files_that_are_others_are_refused(call, tmp_path):
    (tmp_path / "statlog").mkdir()
    for name in ("sat.trn", "sat.tst"):
        (tmp_path / "statlog" / name).write_text("1 2 3\n")
    code, told = call("get", "statlog")
    assert code == 2
    assert told["error"]["type"] == "DataError"
    assert "not e896dc88" in told["error"]["message"]


def test_a_data_set_that_is_here_is_not_fetched(call, tmp_path, monkeypatch):
    text = b"1 2 3\n"
    one = registry.DATA_SETS["statlog"]
    import hashlib
    from dataclasses import replace

    small = replace(one, files={"sat.trn": hashlib.sha256(text).hexdigest()})
    monkeypatch.setattr("esscher.cli.data.data_set", lambda name: small)
    (tmp_path / "statlog").mkdir()
    (tmp_path / "statlog" / "sat.trn").write_bytes(text)
    code, found = call("get", "statlog")
    assert code == 0
    assert found["folder"] == str(tmp_path / "statlog")
    assert found["fetched"] is False


def test_which_data_set_must_be_said(call):
    code, told = call("get")
    assert (code, told["error"]["message"]) == (2, "name a data set: statlog")
    code, told = call("get", "iris")
    assert code == 2
    assert "no data set is called 'iris'" in told["error"]["message"]
