"""`esscher pandora`, run as a user runs it."""

import json

import pytest

from esscher.cli import main
from esscher.errors import DataError
from esscher.kit.data.table import write_table
from esscher.kit.runs.record import Record
from esscher.pandora import PandoraInstance
from esscher.pandora.examples import hiring
from esscher.pandora.families import FAMILIES, tight
from esscher.pandora.files import read_instance, write_instance

PROMISED = {
    "value", "upper_bound", "gap", "certified", "method", "order", "backup", "weitzman",
    "committing",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_instance(tmp_path / "tight.json", tight(height=1000.0))
    write_instance(tmp_path / "hiring.json", hiring())
    return tmp_path


def call(capsys, *arguments, json_out=True):
    """Exit code and standard output, as an object where it is JSON."""
    code = 0
    try:
        main(["pandora", *arguments, *(["--json"] if json_out else [])])
    except SystemExit as end:
        code = end.code
    out, _ = capsys.readouterr()
    if not json_out:
        return code, out
    lines = out.strip().splitlines()
    assert len(lines) == 1
    return code, json.loads(lines[0])


def test_the_contract_others_script_against(folder, capsys):
    (folder / "plain.json").write_text(
        '{"outside": 0, "boxes": [{"name": "A", "cost": 0, "values": [0, 2], "probs": [0.5, 0.5]},'
        '{"name": "B", "cost": 1, "values": [0, 1000], "probs": [0.998, 0.002]}]}'
    )
    code, found = call(capsys, "solve", "plain.json", "--eps", "1e-3")
    assert code == 0
    assert set(found) == PROMISED
    assert found["value"] == pytest.approx(2.5 - 2 / 1000)
    assert found["upper_bound"] >= found["value"]
    assert found["certified"] is True
    assert (found["order"], found["backup"]) == (["A"], "B")
    assert found["committing"] == pytest.approx(2.0)
    assert found == call(capsys, "solve", "tight.json", "--eps", "1e-3")[1]


@pytest.mark.parametrize(
    ("method", "value"),
    [("exact", 2.498), ("bnb", 2.498), ("committing", 2.0), ("weitzman", 1.998)],
)
def test_methods(folder, capsys, method, value):
    code, found = call(capsys, "solve", "tight.json", "--method", method, "--time-limit", "20")
    assert code == 0
    assert found["value"] == pytest.approx(value)
    assert found["certified"] == (method in ("exact", "bnb"))
    assert found["upper_bound"] >= 2.498 - 1e-9


def test_eps_is_what_certifies(folder, capsys):
    flags = ["tight.json", "--method", "committing", "--eps"]
    gap = call(capsys, "solve", *flags, "0.9")[1]["gap"]
    assert call(capsys, "solve", *flags, str(gap + 0.01))[1]["certified"] is True
    assert call(capsys, "solve", *flags, str(gap - 0.01))[1]["certified"] is False


def test_compare_sets_all_beside_each_other(folder, capsys):
    code, found = call(capsys, "compare", "tight.json")
    assert code == 0
    assert found["ratios"]["committing / optimum"] == pytest.approx(2 / 2.498)
    assert found["ratios"]["weitzman / optimum"] == pytest.approx(found["weitzman"] / 2.498)
    assert 0 < found["ratios"]["optimum / upper_bound"] <= 1
    code, out = call(capsys, "compare", "tight.json", json_out=False)
    assert "committing / optimum" in out
    write_instance(folder / "empty.json", PandoraInstance([]))
    assert call(capsys, "compare", "empty.json")[1]["ratios"]["committing / optimum"] is None


@pytest.mark.parametrize("policy", ["optimal", "weitzman", "committing"])
def test_simulate_audits_what_was_computed(folder, capsys, policy):
    code, found = call(capsys, "simulate", "hiring.json", "--policy", policy, "--n", "20000")
    assert code == 0
    assert found["ok"] is True
    assert abs(found["standard_errors_off"]) < 4
    payoff = found["payoff"]
    assert payoff["n"] == 20000
    assert payoff["mean"] == pytest.approx(found["computed"], abs=5 * payoff["se"])
    again = call(capsys, "simulate", "hiring.json", "--policy", policy, "--n", "20000")[1]
    assert again == found
    flags = ["--policy", policy, "--n", "20000", "--seed", "1"]
    assert call(capsys, "simulate", "hiring.json", *flags)[1] != found


def test_scenarios_are_played_as_they_are(folder, capsys):
    write_table(folder / "joint.csv", ["B", "A"], [[0, 2], [1000, 0]])
    code, found = call(capsys, "simulate", "tight.json", "--scenarios", "joint.csv")
    assert code == 0
    assert found["payoff"]["mean"] == pytest.approx((2 - 1 + 1000) / 2)
    assert "computed" not in found
    write_table(folder / "short.csv", ["A"], [[0]])
    code, found = call(capsys, "simulate", "tight.json", "--scenarios", "short.csv")
    assert code == 2
    assert "no column 'B'" in found["error"]["message"]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_families_come_out_as_files(folder, capsys, family):
    code, found = call(capsys, "generate", "--family", family, "--n", "6", "--out", "x.json")
    assert code == 0
    assert found == {"out": "x.json", "family": family, "boxes": 6}
    saved = (folder / "x.json").read_text()
    assert call(capsys, "generate", "--family", family, "--n", "6")[1] == json.loads(saved)
    _, out = call(capsys, "generate", "--family", family, "--n", "6", json_out=False)
    assert json.loads(out) == json.loads(saved)
    other = call(capsys, "generate", "--family", family, "--n", "6", "--seed", "5")[1]
    assert (other == json.loads(saved)) == (family == "tight")


def test_the_tight_family_takes_its_height(folder, capsys):
    _, found = call(capsys, "generate", "--family", "tight", "--H", "50")
    assert [box["name"] for box in found["boxes"]] == ["A", "B"]
    assert max(found["boxes"][1]["values"]) == 50
    code, told = call(capsys, "generate", "--family", "tigt")
    assert code == 2
    assert "did you mean 'tight'" in told["error"]["message"]


def test_a_table_says_the_same_as_json(folder, capsys):
    write_instance(folder / "hiring.csv", hiring())
    assert read_instance(folder / "hiring.csv") == hiring()
    first, second = (call(capsys, "solve", f"hiring.{kind}")[1] for kind in ("csv", "json"))
    assert first == second
    with pytest.raises(DataError, match=r"write a \.json file"):
        write_instance(folder / "no.csv", PandoraInstance(hiring().boxes, outside=1.0))
    assert read_instance(folder / "hiring.json") == hiring()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["A", "1", "0.5", "-1"], ["A", "2", "0.5", "-1"]], "box 'A'"),
        ([["A", "1", "0.5", "1"], ["A", "2", "0.4", "1"]], "box 'A'"),
        ([["A", "1", "0.5", "1"], ["A", "2", "0.5", "2"]], "box 'A' costs 1 in one row"),
        ([["A", "1", "1", "1"], ["B", "x", "1", "0"]], "box 'B', value in row 2"),
        ([["A", "1", "1", "1"], ["B", "nan", "1", "0"]], "box 'B', value in row 2"),
    ],
)
def test_a_bad_table_names_the_box(folder, capsys, rows, message):
    write_table(folder / "bad.csv", ["box", "value", "prob", "cost"], rows)
    code, told = call(capsys, "solve", "bad.csv")
    assert code == 2
    assert message in told["error"]["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": [0.5, 0.6]}, "box 'B': probabilities must sum to 1"),
        ({"probs": [1.5, -0.5]}, "box 'B'"),
        ({"probs": [1.0]}, "box 'B'"),
        ({"values": [], "probs": []}, "box 'B'"),
        ({"values": ["x", 1]}, "box 'B'"),
        ({"cost": -1}, "box 'B'"),
        ({"cost": None}, "box 'B'"),
        ({"name": "A"}, "'A' is used twice"),
        ({"price": 1}, "box 'B': 'price' is unknown"),
    ],
)
def test_a_bad_box_is_named(folder, capsys, change, message):
    data = tight(height=10.0).to_dict()
    data["boxes"][1] |= change
    (folder / "bad.json").write_text(json.dumps(data))
    code, told = call(capsys, "solve", "bad.json")
    assert code == 2
    assert message in told["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "gone.json"], "cannot read gone.json"),
        (["solve", "gone.csv"], "cannot read gone.csv"),
        (["solve", "tight.json", "--eps", "-1"], "eps must be"),
        (["solve", "tight.json", "--time-limit", "0"], "time_limit must be positive"),
        (["solve", "tight.json", "--report", "no/where.html"], "cannot write no/where.html"),
        (["simulate", "tight.json", "--n", "0"], "n >= 1"),
        (["generate", "--family", "random", "--n", "-1"], "at least 0 boxes"),
        (["generate", "--family", "random", "--out", "no/x.json"], "cannot write no/x.json"),
    ],
)
def test_bad_settings_are_user_errors(folder, capsys, arguments, message):
    code, told = call(capsys, *arguments)
    assert code == 2
    assert message in told["error"]["message"]


def test_a_column_that_lacks_is_named(folder, capsys):
    write_table(folder / "bad.csv", ["box", "value", "probs", "cost"], [["A", 1, 1, 1]])
    code, told = call(capsys, "solve", "bad.csv")
    assert code == 2
    assert "did you mean 'probs'" in told["error"]["message"]


def test_a_report_of_a_file(folder, capsys):
    flags = ["--report", "r.html", "--unit", "k€", "--plays", "2000"]
    code, found = call(capsys, "solve", "hiring.json", *flags)
    assert code == 0
    assert set(found) == PROMISED | {"report"}
    page = (folder / "r.html").read_text(encoding="utf-8")
    for word in (
        "What to do", "Open E first, which costs 1 k€", "The list", "The boxes", "What it earns",
        "What cheaper looking is worth", "Weitzman", "2,000 searches", "k€",
    ):  # fmt: skip
        assert word in page
    assert page.count("<svg") == 3
    again = call(capsys, "solve", "hiring.json", *flags, "--seed", "1")[1]
    assert again["value"] == found["value"]
    assert (folder / "r.html").read_text(encoding="utf-8") != page


def test_the_demo_shows_where_simpler_rules_lose(folder, capsys):
    code, found = call(capsys, "demo", "-q", "--plays", "5000")
    assert code == 0
    assert found["tight"]["value"] == pytest.approx(2.4)
    assert found["tight"]["committing"] == pytest.approx(2.0)
    assert found["hiring"]["committing"] < 0.9 * found["hiring"]["value"]
    assert found["hiring"]["weitzman"] < 0.9 * found["hiring"]["value"]
    page = (folder / found["report"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    for word in ("As the prize grows", "takes no box without opening it", "A commitment decides"):
        assert word in page
    assert Record(folder / found["run"]).result()["tight"] == found["tight"]
