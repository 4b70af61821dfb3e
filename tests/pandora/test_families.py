"""Families: sizes, seeds, and what is refused."""

import pytest

from esscher.errors import ConfigError
from esscher.pandora import solve
from esscher.pandora.families import FAMILIES, exposed, hardness_stress, tight


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_seed_names_an_instance(name):
    make = FAMILIES[name]
    assert len(make(7, 0)) == 7
    assert make(7, 0) == make(7, 0)
    assert name == "tight" or make(7, 0) != make(7, 1)


def test_committing_does_not_solve_the_exposed_family():
    for seed in range(3):
        found = solve(exposed(12, seed), 1e-9)
        assert found.certified
        assert found.committing < 0.93 * found.value


@pytest.mark.parametrize("make", [tight, exposed, hardness_stress])
def test_families_around_one_backup_need_two_boxes(make):
    with pytest.raises(ConfigError):
        make(1, 0)
