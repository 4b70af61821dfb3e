"""Where instances come from."""

import pickle

import pytest

from esscher.branch.instances.collection import generate
from esscher.branch.instances.kind import instance
from esscher.branch.instances.set_cover import SetCover
from esscher.branch.instances.sizes import named
from esscher.branch.problems import Drawn, InFile, InMemory, as_problems, problems_of
from esscher.errors import ConfigError, DataError
from tests.branch.problems import covering

SMALL = SetCover(20, 30, density=0.2)


def objective(problem):
    model = problem.model()  # its variables die with it
    return sorted(variable.getObj() for variable in model.getVars())


def test_classes_folders_and_files_give_the_same_instances(tmp_path):
    made = generate(SMALL, tmp_path / "some", 3, seed=1)
    folder = problems_of(str(tmp_path / "some"))
    assert [p.name for p in folder] == [path.name for path in made.paths]
    assert len(problems_of(str(tmp_path / "some"), 2)) == 2
    for i, problem in enumerate(folder):
        drawn = pickle.loads(pickle.dumps(Drawn(SMALL, 1, i)))
        one = problems_of(str(made.paths[i]))[0]
        inside = InMemory(instance(SMALL, 1, i))
        assert objective(problem) == objective(drawn) == objective(one) == objective(inside)
        assert f"{drawn.name}.mps" == problem.name
        assert drawn.name == inside.name


def test_a_class_is_a_stream_of_its_seed():
    found = problems_of("setcover-100x100", 3, seed=5)
    assert found == [Drawn(named("setcover-100x100"), 5, i) for i in range(3)]
    assert len(problems_of("setcover-100x100")) == 20
    assert objective(found[0]) != objective(problems_of("setcover-100x100", 1, seed=6)[0])


def test_a_folder_without_an_index_gives_its_files(tmp_path):
    made = generate(SMALL, tmp_path / "some", 2, seed=1)
    (tmp_path / "some" / "instances.json").unlink()
    (tmp_path / "some" / "notes.txt").write_text("hello")
    assert problems_of(str(tmp_path / "some")) == [InFile(path) for path in sorted(made.paths)]


def test_names_have_to_differ(tmp_path):
    with pytest.raises(ConfigError, match="no instance"):
        as_problems([])
    with pytest.raises(ConfigError, match="'milp'"):
        as_problems([covering(5, 5, 0.5, 0), covering(5, 5, 0.5, 1)])
    found = as_problems([tmp_path / "a.mps", covering(5, 5, 0.5, 0), Drawn(SMALL, 0, 0)])
    assert [type(p) for p in found] == [InFile, InMemory, Drawn]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("setcover-165x30", ConfigError, "setcover-165x230"),
        ("gone.mps", DataError, "no file or folder gone.mps"),
        ("gone/away", DataError, "gone/away"),
        (".", DataError, "holds no instance"),
    ],
)
def test_what_is_not_there_is_a_typed_error(tmp_path, monkeypatch, source, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        problems_of(source)


def test_none_at_all_is_an_error():
    with pytest.raises(ConfigError, match="count"):
        problems_of("setcover-100x100", 0)
