import json
import signal

import pytest

from esscher.cli import main
from esscher.cli.table import Command

HERE = "tests.cli.commands"
TABLE = {
    "toy fit": Command(f"{HERE}:fit", "Tune, in one line."),
    "toy go-on": Command(f"{HERE}:go_on", "Go on."),
    "toy needy": Command(f"{HERE}:needy", "Needs a model."),
    "toy nothing": Command(f"{HERE}:nothing", "Nothing."),
    "check": Command(f"{HERE}:check", "Judge."),
    "bad": Command(f"{HERE}:bad_number", "Bad."),
    "fail": Command(f"{HERE}:fail", "Fail."),
    "stop": Command(f"{HERE}:stop", "Stop."),
    "broken": Command("a_module_nobody_has:x", "Cannot be loaded."),
}


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def run(line):
        arguments = line.split() if isinstance(line, str) else line
        code = 0
        try:
            main(arguments, TABLE)
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def config_of(out):
    return json.loads(out)["config"]


def test_defaults(call, no_global_state):
    code, out, _ = call("toy fit --json")
    assert code == 0
    assert config_of(out).startswith("FitOptions(steps=10, divergence='js', prompts=(), limit=None")


def test_flags_reach_nested_choices_lists_and_optional_values(call):
    code, out, _ = call(
        "toy fit --json --steps 3 --divergence kl --prompts a --prompts b --limit 2 --greedy "
        "--out x/y --optim.lr 0.5 --optim.betas 0.1 0.2"
    )
    assert code == 0
    assert config_of(out) == (
        "FitOptions(steps=3, divergence='kl', prompts=('a', 'b'), limit=2.0, out=PosixPath('x/y'), "
        "greedy=True, optim=Optim(lr=0.5, betas=(0.1, 0.2)))"
    )


def test_flags_win_over_the_file_and_the_file_over_defaults(call, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        'steps = 5\ndivergence = "kl"\nprompts = ["u", "v"]\nlimit = 1\ngreedy = true\n'
        'out = "o"\n[optim]\nlr = 0.25\nbetas = [0.5, 0.6]\n'
    )
    _, out, _ = call(f"toy fit --json --config {file} --steps 7 --optim.lr 2 --no-greedy")
    assert config_of(out) == (
        "FitOptions(steps=7, divergence='kl', prompts=('u', 'v'), limit=1.0, out=PosixPath('o'), "
        "greedy=False, optim=Optim(lr=2.0, betas=(0.5, 0.6)))"
    )


def test_a_recorded_configuration_can_be_given_back(call, tmp_path):
    from esscher.kit.runs.config import to_toml
    from tests.cli.commands import FitOptions

    file = tmp_path / "config.toml"
    file.write_text(to_toml(FitOptions()))
    _, out, _ = call(f"toy fit --json --config {file}")
    assert config_of(out) == repr(FitOptions())


def test_resuming_takes_the_settings_of_the_run(call, tmp_path):
    from esscher.kit.runs.folder import Run
    from tests.cli.commands import FitOptions

    config = FitOptions(steps=3, prompts=("a",))
    run = Run.create(tmp_path, "toy", "fit", "x", config=config, seed=0)
    found = json.loads(call(f"toy go-on --json --resume {run.path}")[1])
    assert found == {"config": repr(config), "resume": str(run.path)}
    assert "steps=10" in json.loads(call("toy go-on --json")[1])["config"]
    code, _, err = call(f"toy go-on --resume {tmp_path}")
    assert code == 2
    assert "cannot read the configuration" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 5", "unknown setting 'stepps' (did you mean 'steps'?)"),
        ("[optim]\nrl = 5", "unknown setting 'optim.rl'"),
        ("steps = 'x'", "steps must be of type int"),
        ("divergence = 'jss'", "divergence must be one of 'js', 'kl'"),
        ("steps = 0", "steps must be >= 1, got 0"),
        ("steps = = 1", "not valid TOML"),
        (None, "cannot read the configuration"),
    ],
)
def test_a_wrong_file_is_a_user_error(call, tmp_path, text, message):
    file = tmp_path / "config.toml"
    if text is not None:
        file.write_text(text)
    code, out, err = call(f"toy fit --config {file}")
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_required_settings_may_come_from_file_or_flag(call, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('model = "m"\n')
    assert json.loads(call(f"toy needy --json --config {file} --n 2")[1]) == {"model": "m", "n": 2}
    assert json.loads(call("toy needy --json --model z")[1]) == {"model": "z", "n": 1}
    code, _, err = call("toy needy --n 2")
    assert code == 2
    assert "--model" in err


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("toy fit --step 1", "--steps"),
        ("toy fit --optim.lrr 1", "--optim.lr"),
        ("toy fti", "fit"),
        ("toyy fit", "toy"),
        ("toy fit --divergence jss", "js"),
        ("toy fit 3", "3"),
        ("toy fit --steps x", "--steps"),
        ("toy nothing --config x", "--config"),
    ],
)
def test_unknown_words_end_with_2_and_name_the_nearest(call, line, nearest):
    code, out, err = call(line)
    assert (code, out) == (2, "")
    assert nearest in err
    assert "Traceback" not in err


def test_json_is_the_only_thing_on_standard_output(call):
    code, out, err = call("toy fit --json")
    assert code == 0
    assert out.count("\n") == 1
    assert json.loads(out)["kl"] == {"mean": 0.5, "se": 0.01, "n": 100}
    assert "a library prints" in err
    assert "fit  1/1" in err
    assert json.loads(call("toy nothing --json")[1]) == {}


def test_people_get_tables_with_errors_and_sample_sizes(call):
    code, out, err = call("toy fit -q")
    assert (code, err) == (0, "")
    assert "0.500 ± 0.010 (n=100)" in out
    assert "not available" in out
    assert call("toy nothing") == (0, "", "")


def test_a_result_that_is_not_ok_ends_with_1_and_is_no_markup(call):
    code, out, _ = call("check")
    assert code == 1
    assert "[red]a[/red]" in out
    assert '{"b": {"x": 1}}' in out
    assert call("check --json")[0] == 1


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ConfigError", 2),
        ("ShapeError", 2),
        ("TargetUnreachableError", 2),
        ("MissingExtra", 2),
        ("NumericsError", 1),
        ("CheckpointError", 1),
        ("KeyError", 1),
        ("KeyboardInterrupt", 130),
    ],
)
def test_errors_have_their_exit_codes_and_no_traceback(call, kind, code):
    got, out, err = call(f"fail {kind}")
    assert (got, out) == (code, "")
    assert err.startswith("esscher: ")
    assert "Traceback" not in err
    got, out, _ = call(f"fail {kind} --json")
    assert got == code
    assert json.loads(out)["error"]["type"] == kind
    got, _, err = call(f"fail {kind} --debug")
    assert got == code
    assert "Traceback" in err


def test_a_number_that_is_not_finite_is_a_fault(call):
    code, out, err = call("bad --json")
    assert code == 1
    assert json.loads(out)["error"]["type"] == "NumericsError"
    assert "result.kl.mean is nan" in err


def test_an_interrupted_run_says_how_to_go_on(call, tmp_path):
    code, _, err = call(["stop", str(tmp_path)])
    (run,) = tmp_path.iterdir()
    assert code == 130
    assert f"--resume {run}" in err


def test_sigterm_ends_like_ctrl_c(call, monkeypatch, no_global_state):
    from tests.cli import commands

    monkeypatch.setattr(commands, "nothing", lambda: signal.raise_signal(signal.SIGTERM))
    assert call("toy nothing")[0] == 130


def test_help_shows_every_command_without_loading_it(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "Judge." in out
    assert "Cannot be loaded." in out
    assert call("")[1] == out
    assert "Tune, in one line." in call("toy --help")[1]


def test_help_of_a_command_comes_from_the_docstrings(call):
    code, out, _ = call("toy fit --help")
    assert code == 0
    for text in (
        "Tune something.",
        "Gradient steps, >= 1. [default: 10]",
        "choices: js, kl",
        "--optim.lr",
        "Learning rate, > 0.",
        "--json",
        "--quiet -q",
        "Settings from a TOML file",
    ):
        assert text in out


def test_a_command_that_cannot_be_loaded_is_a_fault(call):
    code, _, err = call("broken")
    assert code == 1
    assert "a_module_nobody_has" in err
