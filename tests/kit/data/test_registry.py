"""Data sets: where they are looked for, how they are fetched, and what can go wrong."""

import hashlib
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from esscher.errors import ConfigError, DataError, MissingExtra
from esscher.kit.data import registry
from esscher.kit.data.registry import DATA_SETS, DataSet, data_set, download, find, folder_of

CONTENT = {"a.txt": b"1 2\n", "b.txt": b"3 4\n"}
SUMS = {name: hashlib.sha256(text).hexdigest() for name, text in CONTENT.items()}


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder beside the checkout, one of the variable, and a cache; all without data."""
    monkeypatch.setattr(registry, "BESIDE", tmp_path / "beside")
    monkeypatch.setenv("ESSCHER_DATA", str(tmp_path / "variable"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def served(places):
    """A data set whose archive a server on this host has."""
    web = places / "web"
    web.mkdir()
    with zipfile.ZipFile(web / "toy.zip", "w") as archive:
        for name, text in {**CONTENT, "notes.txt": b"not asked for"}.items():
            archive.writestr(name, text)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(web)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/toy.zip"
    yield DataSet("toy", "A Toy", url, SUMS, "none", "nobody")
    server.shutdown()
    thread.join()
    server.server_close()


def put(folder, content=None):
    folder.mkdir(parents=True)
    for name, text in (content or CONTENT).items():
        (folder / name).write_bytes(text)


def test_places_are_searched_in_order(places, monkeypatch):
    toy = DataSet("toy", "A Toy", "http://nowhere.invalid/x.zip", SUMS, "none", "nobody")
    cache = places / "cache"
    assert find(toy, cache) is None
    for place in (cache, places / "variable", places / "beside"):
        put(place / "toy")
        assert find(toy, cache) == place / "toy"
        assert folder_of(toy, cache) == download(toy, cache) == place / "toy"
    (places / "beside" / "toy" / "b.txt").unlink()
    assert find(toy, cache) == places / "variable" / "toy"
    monkeypatch.delenv("ESSCHER_DATA")
    assert find(toy, cache) == cache / "toy"


def test_a_data_set_is_fetched_once_and_whole(places, served, capfd):
    cache = places / "cache"
    with pytest.raises(DataError, match="esscher data get toy"):
        folder_of(served, cache)
    folder = download(served, cache)
    assert folder == cache / "toy"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert [path.name for path in cache.iterdir()] == ["toy"]
    assert capfd.readouterr().err == ""
    assert download(replace(served, url="http://nowhere.invalid/x.zip"), cache) == folder


def test_a_wrong_checksum_keeps_nothing(places, served):
    cache = places / "cache"
    other = replace(served, files=SUMS | {"b.txt": "0" * 64})
    with pytest.raises(DataError, match=rf"b.txt of A Toy .* is {SUMS['b.txt']}, not 0000"):
        download(other, cache)
    assert list(cache.iterdir()) == []
    with pytest.raises(DataError, match=r"holds no c.txt"):
        download(replace(served, files=SUMS | {"c.txt": "0" * 64}), cache)
    put(cache / "toy", CONTENT | {"a.txt": b"changed"})
    with pytest.raises(DataError, match=r"a\.txt of A Toy is damaged or another edition"):
        folder_of(served, cache)


def test_an_archive_that_is_none(places, served):
    (places / "web" / "toy.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"cannot fetch .*not a zip file"):
        download(served, places / "cache")
    with pytest.raises(DataError, match=r"cannot fetch .*404"):
        download(replace(served, url=served.url + "x"), places / "cache")


def test_without_a_network_it_is_said_what_to_do(places):
    gone = DataSet("toy", "A Toy", "http://127.0.0.1:9/toy.zip", SUMS, "none", "nobody")
    message = r"put a.txt and b.txt into toy/ of a folder and name that folder in \$ESSCHER_DATA"
    with pytest.raises(DataError, match=message):
        download(gone, places / "cache")
    assert list((places / "cache").iterdir()) == []


def test_without_pooch_the_pip_line_is_named(places, served, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra, match=r"esscher\[data\]"):
        download(served, places / "cache")


def test_the_registry_names_its_data_sets():
    assert all(name == each.name for name, each in DATA_SETS.items())
    assert all(len(digest) == 64 for each in DATA_SETS.values() for digest in each.files.values())
    with pytest.raises(ConfigError, match="no data set is called 'iris'; there are: statlog"):
        data_set("iris")
