"""Rows on a real Dask cluster: a scheduler and two worker processes on this machine."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import toy
from toy import DROPOUT, SQUARES, Squares

from helpers.__main__ import main
from helpers.experiments.machinery import artefact, cluster, runner
from helpers.experiments.machinery.config import ConfigError
from helpers.experiments.machinery.runner import RowError

distributed = pytest.importorskip("distributed")
NAME = "squares.smoke.json"


@pytest.fixture(scope="module")
def workers():
    """Two worker processes of one thread, reached by the loopback interface."""
    with distributed.LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    ) as local:
        yield local


def alone(tmp_path, config, experiment=SQUARES):
    return runner.run(experiment, "smoke", config, out=tmp_path / "alone", quiet=True).rows


def test_a_worker_killed_on_the_way_changes_no_bit(tmp_path, workers):
    config = Squares(count=10, pause=0.2)
    with cluster.executor(workers.scheduler_address) as (pool, in_flight):
        assert in_flight == 4
        victim = workers.workers[0].pid
        thread = threading.Thread(
            target=runner.run,
            args=(SQUARES, "smoke", config),
            kwargs={"out": tmp_path, "executor": pool, "in_flight": in_flight, "quiet": True},
        )
        thread.start()
        while not ((tmp_path / NAME).exists() and artefact.load(tmp_path / NAME).finished):
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        thread.join()
    made = artefact.load(tmp_path / NAME)
    assert made.complete
    assert made.rows == alone(tmp_path, Squares(count=10))
    assert made.provenance["row_seconds"] > 20 * 0.2


def test_rows_that_overlap_in_four_threads_of_a_worker_change_no_bit(tmp_path):
    """Each row trains with dropout, whose random numbers all threads of a process share."""
    config = Squares(count=2, seeds=(0, 1, 2, 3, 4, 5))
    with (
        distributed.LocalCluster(
            n_workers=1, processes=True, threads_per_worker=4, host="127.0.0.1", dashboard_address=":0"
        ) as local,
        cluster.executor(local.scheduler_address) as (pool, in_flight),
    ):
        assert in_flight == 8
        made = runner.run(DROPOUT, "smoke", config, out=tmp_path, executor=pool, in_flight=in_flight, quiet=True)
    assert made.rows == alone(tmp_path, config, DROPOUT)
    assert len({str(row["weights"]) for row in made.rows}) == 6


def test_a_row_that_kills_every_worker_is_one_sentence(tmp_path, workers):
    """Its executor gives up after some workers; the finished rows are there, and a later run goes on."""
    with distributed.Client(workers.scheduler_address, set_as_default=False) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    marker = tmp_path / "died"
    with (
        cluster.executor(workers.scheduler_address) as (pool, _),
        pytest.raises(RowError, match=r"row x=2, .* was lost with its worker \(KilledWorker\).*run the same command"),
    ):
        runner.run(toy.DEADLY, "smoke", Squares(name=str(marker)), out=tmp_path, executor=pool, quiet=True)
    assert len(artefact.load(tmp_path / NAME).finished) == 2
    with cluster.executor(workers.scheduler_address) as (pool, in_flight):
        made = runner.run(
            toy.DEADLY, "smoke", Squares(name=str(marker)), out=tmp_path, executor=pool, in_flight=in_flight, quiet=True
        )
    assert made.rows == alone(tmp_path, Squares())


def test_a_failing_row_names_itself_across_processes(tmp_path, workers, capsys):
    """1,200 examples for each of 3 runs are more than there are."""
    arguments = ["run", "dispersion", "--profile", "smoke", "--set", "n=1200", "--set", "noise_levels=0"]
    assert main([*arguments, "--scheduler", workers.scheduler_address, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("helpers: row noise=0.0, seed=0 of dispersion.smoke failed: 3 disjoint parts need 3600")


def test_the_command_line_uses_the_cluster_and_closes_its_connection(tmp_path, monkeypatch, workers):
    opened = []

    class Recorded(distributed.Client):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            opened.append(self)

    monkeypatch.setattr(distributed, "Client", Recorded)
    arguments = ["run", "dispersion", "--profile", "smoke", "--set", "epochs=1", "--set", "noise_levels=0,0.5"]
    assert main([*arguments, "--scheduler", workers.scheduler_address, "--out", str(tmp_path / "there")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "here")]) == 0
    there, here = (artefact.load(tmp_path / place / "dispersion.smoke.json") for place in ("there", "here"))
    assert there.rows == here.rows
    assert [client.status for client in opened] == ["closed"]


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "tcp://127.0.0.1:{port}", "none://127.0.0.1:{port}"])
def test_no_scheduler_is_one_sentence(monkeypatch, tmp_path, capsys, address):
    monkeypatch.setattr(cluster, "SECONDS_TO_ANSWER", 0.5)
    address = address.format(port=closed_port())
    assert main(["run", "dispersion", "--profile", "smoke", "--scheduler", address, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"helpers: no Dask scheduler answers at {address!r}; start one, or leave --scheduler out\n"
    )
    assert not list(tmp_path.iterdir())
    # One that is collected later, while Dask starts another loop, waits for ever.
    assert not [thing for thing in gc.get_objects() if type(thing) is distributed.Client and thing.status != "closed"]


@pytest.mark.parametrize(
    "address", ["", "a b", "nonsense", "127.0.0.1", "file://x", "x:8786\n", "x:123456", "x" * 10**5]
)
def test_what_is_no_address_is_one_sentence(address):
    with pytest.raises(ConfigError, match="takes an address such as") as caught, cluster.executor(address):
        pass
    assert len(str(caught.value)) < 200


def test_a_scheduler_without_workers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_TO_ANSWER", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(ConfigError, match="has no workers; start some"),
        cluster.executor(empty.scheduler_address),
    ):
        pass


def test_a_server_that_is_no_scheduler_is_one_sentence_in_good_time(monkeypatch):
    """It takes the connection and waits for a request of its own kind, as a web server does."""
    monkeypatch.setattr(cluster, "SECONDS_TO_ANSWER", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with (
            pytest.raises(ConfigError, match="no Dask scheduler answers"),
            cluster.executor(f"127.0.0.1:{silent.getsockname()[1]}"),
        ):
            pass
    assert time.monotonic() - started < 5


def test_a_call_that_does_not_end_is_left_behind_and_an_error_comes_back():
    end, started = threading.Event(), time.monotonic()
    assert cluster._within(0.05, lambda: end.wait(60)) is None
    assert time.monotonic() - started < 30
    end.set()
    assert isinstance(cluster._within(5, lambda: 1 / 0), ZeroDivisionError)


def test_a_run_whose_only_worker_is_gone_for_good_stops(monkeypatch, tmp_path):
    """A worker without a nanny that would start it again; the rows that it finished are there."""
    monkeypatch.setattr(cluster, "SECONDS_WITHOUT_WORKERS", 0.5)
    monkeypatch.setattr(runner, "SECONDS_BETWEEN_LOOKS", 0.1)
    with distributed.LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address=":0") as empty:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", empty.scheduler_address]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path / "scratch")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL) as worker:
            try:
                with cluster.executor(empty.scheduler_address) as (pool, in_flight):
                    threading.Thread(target=kill_after_a_row, args=(worker, tmp_path / NAME)).start()
                    with pytest.raises(RowError, match=r"all workers are gone with 2 rows of .* start workers"):
                        runner.run(
                            SQUARES,
                            "smoke",
                            Squares(pause=0.2),
                            out=tmp_path,
                            executor=pool,
                            in_flight=in_flight,
                            quiet=True,
                        )
            finally:
                worker.kill()
    assert artefact.load(tmp_path / NAME).finished


def kill_after_a_row(process, path):
    while not path.exists():
        time.sleep(0.01)
    process.kill()


WITHOUT = "import sys; sys.modules['helpers'] = None; from distributed.cli.dask_worker import main; main()"


def test_a_worker_without_the_package_is_one_sentence(monkeypatch, tmp_path):
    """It leaves, for it cannot even read what it is sent; the same run goes on where the package is."""
    monkeypatch.setattr(cluster, "SECONDS_WITHOUT_WORKERS", 0.5)
    monkeypatch.setattr(runner, "SECONDS_BETWEEN_LOOKS", 0.1)
    with distributed.LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address=":0") as empty:
        command = [sys.executable, "-c", WITHOUT, empty.scheduler_address]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path / "scratch")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL) as worker:
            try:
                with (
                    cluster.executor(empty.scheduler_address) as (pool, in_flight),
                    pytest.raises(RowError, match=r"all workers are gone .* start workers that have this package"),
                ):
                    runner.run(
                        SQUARES, "smoke", Squares(), out=tmp_path, executor=pool, in_flight=in_flight, quiet=True
                    )
            finally:
                worker.terminate()
    assert runner.run(SQUARES, "smoke", Squares(), out=tmp_path, quiet=True).rows == alone(tmp_path, Squares())
