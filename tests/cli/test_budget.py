"""What a process loads before it is asked to work."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "scipy", "matplotlib", "transformers", "tokenizers", "safetensors"}
CODE = """
import json, resource, sys
sys.argv = ["esscher", *{arguments!r}]
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
used = resource.getrusage(resource.RUSAGE_SELF)
report = {{"seconds": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}}
sys.stderr.write(json.dumps(report))
"""


def measure(statement, *arguments):
    code = CODE.format(arguments=list(arguments), statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    report = json.loads(done.stderr)
    heavy = HEAVY & {name.partition(".")[0] for name in report["modules"]}
    return done.stdout, report["seconds"], heavy


def test_importing_the_package_is_free():
    _, seconds, heavy = measure("import esscher")
    assert not heavy
    assert seconds < 0.2


@pytest.mark.parametrize("arguments", [["--help"], ["align", "--help"], ["pandora", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    out, seconds, heavy = measure("from esscher.cli import main; main()", *arguments)
    assert "Usage: esscher" in out
    assert not heavy
    assert seconds < 0.8


def test_show_needs_no_torch(tmp_path):
    _, _, heavy = measure("from esscher.cli.show import show")
    assert not heavy
