"""Which Ray is meant and whether it is there: an answer within seconds, and nothing written."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.cluster import local_ray
from orchestrator.cluster.address import PREFACE, asked_for, probe, reachable
from orchestrator.cluster.local_ray import SESSION, SOCKET_BYTES, fits, new_folder
from search_spaces.errors import StudyError
from tests.support.paths import ROOT


@pytest.fixture(name="dead")
def dead_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(name="server")
def other_server(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server that answers with the parameter's bytes; with none it never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(len(PREFACE))
                if request.param is not None:
                    connection.sendall(request.param)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def test_the_flag_goes_before_the_variable_and_local_asks_for_none() -> None:
    there = {"RAY_ADDRESS": "head:6379"}
    assert asked_for("other:6379", there) == ("other:6379", "--address")
    assert asked_for(None, there) == ("head:6379", "RAY_ADDRESS")
    for address, environ in (
        ("local", there),
        (None, {}),
        (None, {"RAY_ADDRESS": ""}),
        (None, {"RAY_ADDRESS": "local"}),
    ):
        assert asked_for(address, environ) is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "the address of a cluster's job server"),
        ("ray://127.0.0.1:10001", "does not run through Ray Client"),
        ("redis://127.0.0.1:6379", "does not run through Ray Client"),
        ("head", "must end in a port"),
        ("head:", "must end in a port"),
        ("head:70000", "must end in a port"),
        ("127.0.0.1:{dead}", "Connection refused"),
        ("[::1]:{dead}", "no Ray cluster answers"),
        ("no-such-host.invalid:6379", "no Ray cluster answers"),
    ],
)
def test_an_address_where_no_cluster_answers_is_refused_at_once(address: str, said: str, dead: int) -> None:
    began = time.monotonic()
    with pytest.raises(StudyError, match=said) as caught:
        reachable(address.format(dead=dead), "RAY_ADDRESS")
    assert time.monotonic() - began < 5
    assert "RAY_ADDRESS is" in str(caught.value) and "--address local" in str(caught.value)


@pytest.mark.parametrize(
    ("server", "wrong"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is not a Ray head"),
        (b"", "what listens there is not a Ray head"),
        (None, "timed out"),
        (bytes(3) + b"\x04" + bytes(5), None),
    ],
    indirect=["server"],
)
def test_another_server_on_the_port_is_told_from_a_cluster(server: int, wrong: str | None) -> None:
    assert probe("127.0.0.1", server, seconds=0.5) == wrong


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:{dead}"}, "no Ray cluster answers at 127.0.0.1:{dead}"),
        ({"RAY_ADDRESS": "http://127.0.0.1:{dead}"}, "ray job submit"),
        ({"TMPDIR": "/no/such/folder"}, "TMPDIR is /no/such/folder, which is not a folder"),
    ],
)
def test_a_search_that_no_ray_can_serve_is_refused_with_nothing_written(
    variables: dict[str, str], said: str, dead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(dead=dead))
    began = time.monotonic()
    code = cli.main(["search", "--data", str(ROOT / "data" / "subset.jsonl"), "--out", str(tmp_path / "runs" / "x")])
    message = capsys.readouterr().err
    assert code == 2
    assert said.format(dead=dead) in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - began < 30


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").touch()
    (tmp_path / "file").touch()
    for out, said in ((tmp_path, "ledger.jsonl exists"), (tmp_path / "file" / "run", "file is not a folder")):
        assert cli.main(["search", "--data", str(tmp_path / "none.jsonl"), "--out", str(out)]) == 2
        assert said in capsys.readouterr().err


def test_rays_folder_is_where_it_is_asked_for_and_private(tmp_path: Path) -> None:
    short = Path(os.environ.get("TMPDIR", "/tmp"))
    folder = new_folder({"TMPDIR": str(short)})
    assert folder.parent == short and folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


def test_a_temporary_folder_too_long_for_a_socket_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    folder = new_folder({"TMPDIR": str(long)})
    assert str(folder.parent) in local_ray.SHORT_FOLDERS
    assert len(f"{folder}{SESSION}") <= SOCKET_BYTES
    folder.rmdir()
    assert fits("/tmp") and not fits("/" + "é" * 20)
    monkeypatch.setattr(local_ray, "SHORT_FOLDERS", (str(long),))
    with pytest.raises(StudyError, match="set RAY_TMPDIR to a short folder"):
        new_folder({"RAY_TMPDIR": str(long)})
