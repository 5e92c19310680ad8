import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import __main__ as commands
from helpers import experiments
from helpers.__main__ import main
from helpers.experiments.machinery import library, verify
from helpers.experiments.machinery.artefact import load
from helpers.experiments.machinery.storage import fingerprint, sealed, write_json

NAME = "dispersion.smoke.json"


def test_list_names_every_experiment(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in experiments.EXPERIMENTS:
        assert name in printed


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_run_show_and_verify_a_smoke_run(name, tmp_path, capsys):
    assert main(["run", name, "--profile", "smoke", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / f"{name}.smoke.json").read_text())
    assert content["experiment"] == name
    assert all(row["status"] == "ok" for row in content["rows"] if "status" in row)
    edition = experiments.EXPERIMENTS[name].edition(experiments.settings(experiments.find(name), "smoke"))
    assert content["provenance"]["data"] == edition
    assert "CIFAR" not in edition  # a smoke run needs no data set from elsewhere
    assert main(["show", name, "--out", str(tmp_path)]) == 0
    assert main(["verify", "--out", str(tmp_path)]) == 0
    assert "complete" in capsys.readouterr().out


def completions(line, tmp_path):
    """What the shell would offer at the end of a line, asked as argcomplete's shell function asks."""
    offered = tmp_path / "offered"
    asked = {"_ARGCOMPLETE": "3", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(offered)}
    subprocess.run([sys.executable, "-m", "helpers"], env=os.environ | asked, check=True)
    return offered.read_text().split("\n")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("python -m helpers v", ["verify"]),
        ("python -m helpers run resnet18-gr", ["resnet18-grid"]),
        ("python -m helpers run dispersion --profile ", ["smoke", "laptop", "paper"]),
        ("python -m helpers run resnet18-grid --profile smoke --set matched_l", ["matched_loss="]),
    ],
)
def test_the_tab_key_completes_names(line, offered, tmp_path):
    assert completions(line, tmp_path) == offered


@cache
def smoke_run(folder):
    """A finished smoke run of the fast experiment, as text."""
    assert main(["run", "dispersion", "--profile", "smoke", "--set", "epochs=1", "--out", str(folder)]) == 0
    return (folder / NAME).read_text()


def forged(text, **changes):
    """An artefact with other fields, and hashes that fit them."""
    content = {**json.loads(text), **changes}
    content.pop("digest")
    content["config_hash"] = fingerprint(content["config"])
    return json.dumps({**content, "digest": fingerprint(content)})


def config_with(text, **changes):
    return {"config": {**json.loads(text)["config"], **changes}}


FORGERIES = [
    (lambda text: {"experiment": "alchemy"}, "alchemy.smoke.json", "is of an unknown experiment, 'alchemy'; remove it"),
    (lambda text: {"profile": "huge"}, "dispersion.huge.json", "is of an unknown profile, 'huge'; remove it"),
    (lambda text: {}, "dispersion.paper.json", "holds dispersion.smoke; give the file that name"),
    (lambda text: config_with(text, k="many"), NAME, "k has a value of the wrong type, 'many'"),
    (lambda text: config_with(text, k=True), NAME, "k has a value of the wrong type, True"),
    (lambda text: config_with(text, k=1), NAME, "the variance over runs needs two"),
    (lambda text: config_with(text, colour="red"), NAME, "the settings colour are missing or unknown"),
    (lambda text: config_with(text, noise_levels=[0.0, 0.1]), NAME, "holds another grid than its settings give"),
]


@pytest.mark.parametrize(("changes", "name", "message"), FORGERIES)
def test_verify_refuses_what_no_run_could_have_written(tmp_path, tmp_path_factory, capsys, changes, name, message):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    (tmp_path / name).write_text(forged(text, **changes(text)))
    assert main(["verify", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    failed = [line for line in printed if line.startswith("FAILED")]
    assert len(failed) == 1
    assert message in failed[0]
    assert printed[-1] == "1 artefacts, 1 failed"


def test_verify_says_what_differs_from_the_book_without_failing(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    (tmp_path / NAME).write_text(forged(text, provenance={**json.loads(text)["provenance"], "code": "old"}))
    assert main(["verify", "--out", str(tmp_path)]) == 0
    remarks = "complete; stale: made by an earlier version of the code; not the smoke profile of now: epochs=1"
    assert remarks in capsys.readouterr().out


def test_settings_of_an_earlier_version_are_stale_and_those_of_this_one_are_refused(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    changed = config_with(text, colour="red")
    earlier = changed | {"provenance": {**json.loads(text)["provenance"], "code": "old"}}
    (tmp_path / NAME).write_text(forged(text, **earlier))
    assert main(["verify", "--out", str(tmp_path)]) == 0
    assert "stale: made by an earlier version of the code, with settings of then" in capsys.readouterr().out
    (tmp_path / NAME).write_text(forged(text, **changed))
    assert main(["verify", "--out", str(tmp_path)]) == 1


def test_verify_fails_on_an_edited_artefact_and_on_a_benchmark_without_its_seal(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    (tmp_path / NAME).write_text(text.replace('"steps": 5', '"steps": 6'))
    (tmp_path / "bench-training.json").write_text("{}")
    write_json(tmp_path / "bench-curvature.json", sealed({"seconds": 1.5}))
    assert main(["verify", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("bench-curvature.json: benchmark, unaltered")
    assert "bench-training.json was altered after it was written" in printed[1]
    assert f"{NAME} was altered after it was written" in printed[2]
    assert printed[3] == "3 artefacts, 2 failed"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path, signal_number):
    """A real process, stopped as a batch system or Ctrl-C does while it computes; it ends as if never stopped."""
    arguments = ["run", "dispersion", "--profile", "smoke", "--set", "epochs=30", "--set", "noise_levels=0,0.5"]
    command = [sys.executable, "-m", "helpers", *arguments, "--out", str(tmp_path)]
    # A job in the background of a script ignores Ctrl-C, and would pass that on to this process.
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not (tmp_path / NAME).exists():
        time.sleep(0.01)
    process.send_signal(signal_number)
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.splitlines()[-1] == ("helpers: stopped; finished rows are saved, run the same command again to resume")
    assert "Traceback" not in error
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert load(tmp_path / NAME).rows == load(tmp_path / "whole" / NAME).rows


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m helpers list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["restamp", "--all"], ["verify"]])
def test_a_command_that_was_left_before_its_end_has_not_said_that_all_is_well(tmp_path, monkeypatch, arguments):
    class Left(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    assert main(["run", "dispersion", "--profile", "smoke", "--set", "epochs=1", "--out", str(tmp_path)]) == 0
    closed = []
    with monkeypatch.context() as patch:
        patch.setattr(commands, "_close_stdout", lambda: closed.append(True))
        patch.setattr(sys, "stdout", Left())
        assert main([*arguments, "--out", str(tmp_path)]) == 1
        assert main(["show", "dispersion", "--out", str(tmp_path)]) == 0  # which only shows
    assert len(closed) == 2
    assert main([*arguments, "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("arguments", [["list"], ["list", "--settings"], ["show", "λ"]])
def test_a_terminal_of_few_letters_gets_what_is_missing_spelt_out(arguments):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "helpers", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="ascii")
    assert done.returncode == (2 if "λ" in arguments else 0), done.stderr
    assert "\\" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


VALUES = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.floats().map(str), st.sampled_from(["0", "1", "none"])
)


@given(
    name=st.sampled_from(["dispersion", "resnet18-grid"]),
    pairs=st.lists(
        st.tuples(st.sampled_from(["k", "n", "lr", "model", "dataset", "seeds", "noise_levels", "x"]), VALUES)
    ),
    budget=st.sampled_from(["0s", "0m", "00.0h", "1", "s", "-1s", "١s"]),
)
@settings(max_examples=60, deadline=None)
def test_no_settings_end_in_a_traceback(tmp_path_factory, name, pairs, budget):
    """With no time to start a row, a command either makes nothing or says in words what is wrong."""
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    arguments = [part for key, value in pairs for part in ("--set", f"{key}={value}")]
    status = main(["run", name, "--profile", "smoke", "--out", str(folder), f"--budget={budget}", *arguments])
    assert status in (0, 2)
    assert not list(folder.glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing", "--profile", "smoke"], "there is no experiment 'nothing'"),
        (["run", "resnet18-grid", "--profile", "huge"], "no profile 'huge'"),
        (["run", "resnet18-grid", "--profile", "smoke", "--set", "k=many"], "k takes a whole number"),
        (["run", "resnet18-grid", "--profile", "smoke", "--budget", "soon"], "--budget takes a time"),
        (["run", "resnet18-grid", "--profile", "../x"], "no profile '../x'"),
        (["run", "dispersion", "--profile", "smoke", "--set", "seeds=1,1"], "seeds gives a value twice"),
        (["run", "dispersion", "--profile", "smoke", "--out", "/proc/none"], "cannot be written to"),
        (["run", "dispersion", "--profile", "smoke", "--out", "x" * 300], "cannot be written to"),
        (["show", "resnet18-grid", "--out", "nowhere"], "nowhere cannot be listed (No such file or directory)"),
        (["verify", "--out", "nowhere"], "nowhere cannot be listed (No such file or directory)"),
        (["verify", "--out", __file__], "cannot be listed (Not a directory)"),
        (["restamp", "--all", "--out", "nowhere"], "nowhere cannot be listed"),
        (["restamp", "--all", "--rows", "0"], "--rows takes a positive whole number, got 0"),
        (["restamp", "nothing"], "there is no experiment 'nothing'"),
        (["run", "dispersion", "--profile", "smoke", "--threads", "0"], "threads must be a positive whole number"),
        (["run", "convex", "--profile", "smoke", "--download"], "--download has nothing to fetch: convex has no"),
    ],
)
def test_foreseen_mistakes_are_one_sentence_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_data_set_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HELPERS_DATA", str(tmp_path / "empty"))
    arguments = ["run", "resnet18-grid", "--profile", "smoke", "--set", "dataset=cifar10-jpeg", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "train.parquet is missing" in capsys.readouterr().err


def test_import_helpers_is_light():
    code = "import sys, helpers; print(any(m in sys.modules for m in ('torch', 'numpy', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# --- what stays true whatever the command meets ---


@pytest.mark.parametrize("command", [["verify"], ["show", "dispersion"], ["restamp", "--all"]])
def test_an_empty_folder_is_no_success(tmp_path, capsys, command):
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no artefacts; make one with 'run'" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_no_success(tmp_path, monkeypatch, capsys):
    def refused(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(verify.os, "listdir", refused)
    assert main(["verify", "--out", str(tmp_path)]) == 2
    assert "cannot be listed (Permission denied)" in capsys.readouterr().err


def test_an_artefact_under_another_name_is_not_shown(tmp_path, tmp_path_factory, capsys):
    (tmp_path / "mlp-width.smoke.json").write_text(smoke_run(tmp_path_factory.getbasetemp() / "smoke"))
    assert main(["show", "mlp-width", "--out", str(tmp_path)]) == 2
    assert main(["run", "mlp-width", "--profile", "smoke", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("holds dispersion.smoke; give the file that name") == 2


def test_a_stale_artefact_is_left_with_a_word_and_made_anew_when_asked(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    old = forged(text, provenance={**json.loads(text)["provenance"], "code": "old"})
    (tmp_path / NAME).write_text(old)
    arguments = ["run", "dispersion", "--profile", "smoke", "--set", "epochs=1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "made by an earlier version of the code, and left as it is: compute it anew with --fresh" in printed
    assert (tmp_path / NAME).read_text() == old
    assert main([*arguments, "--fresh"]) == 0
    assert "earlier version" not in capsys.readouterr().out
    assert load(tmp_path / NAME).provenance["code"] == experiments.find("dispersion").code


def test_restamp_takes_one_profile_or_all_and_counts_failures(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    old = forged(text, provenance={**json.loads(text)["provenance"], "code": "old"})
    (tmp_path / NAME).write_text(old)
    assert main(["restamp", "dispersion", "--profile", "paper", "--out", str(tmp_path)]) == 2
    assert "no artefact of profile 'paper'" in capsys.readouterr().err
    assert main(["restamp", "dispersion", "--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert f"{NAME}: restamped, 1 of" in capsys.readouterr().out
    (tmp_path / "alchemy.smoke.json").write_text("{}")
    assert main(["restamp", "--all", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("FAILED")
    assert printed[1].endswith("current, nothing to do")


def test_what_an_artefact_says_cannot_command_the_terminal(tmp_path, tmp_path_factory, capsys):
    text = smoke_run(tmp_path_factory.getbasetemp() / "smoke")
    origin = {**json.loads(text)["provenance"], "device": "\x1b[2J\ud800\nfine"}
    (tmp_path / NAME).write_text(forged(text, provenance=origin))
    assert main(["show", "dispersion", "--out", str(tmp_path)]) == 0
    assert "\\x1b[2J\\ud800\\nfine" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("command", ["list", "show dispersion --out {}", "verify --out {}"])
def test_an_interrupted_look_speaks_of_no_rows(tmp_path, tmp_path_factory, capsys, monkeypatch, command):
    (tmp_path / NAME).write_text(smoke_run(tmp_path_factory.getbasetemp() / "smoke"))

    def interrupted(text):
        raise KeyboardInterrupt

    capsys.readouterr()
    monkeypatch.setattr("helpers.__main__._say", interrupted)
    assert main(command.format(tmp_path).split()) == 130
    assert capsys.readouterr().err == "\nhelpers: stopped\n"


def in_bash(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&-", ">/dev/full", "2>&- >&-"])
def test_no_stream_decides_the_fate_of_a_run(tmp_path, redirection):
    arguments = f"run dispersion --profile smoke --set epochs=1 --out {tmp_path}"
    assert in_bash(f"{sys.executable} -m helpers {arguments} {redirection}").returncode == 0
    assert load(tmp_path / NAME).complete


def test_an_error_with_nowhere_to_be_said_is_still_an_error(tmp_path):
    done = in_bash(f"{sys.executable} -m helpers verify --out {tmp_path} 2>&-")
    assert done.returncode == 2


def test_version_and_settings(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("flatness-and-information 0.")
    assert main(["list", "--settings"]) == 0
    printed = capsys.readouterr().out
    config = experiments.settings(experiments.find("resnet18-grid"), "laptop")
    line = next(line for line in printed.splitlines() if f"width={config.width} " in line and "lrs=" in line)
    pairs = [pair.partition("=")[::2] for pair in line.split()]
    assert config.with_settings(dict(pairs)) == config


def test_download_fetches_both_parts_first(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("helpers.data.load", lambda name, **how: asked.append((name, how)))
    arguments = ["run", "dispersion", "--profile", "smoke", "--download", "--budget", "0s", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert asked == [("digits", {"train": train, "download": True}) for train in (True, False)]


def test_without_out_all_commands_use_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HELPERS_RESULTS", str(tmp_path / "mine"))
    assert main(["run", "dispersion", "--profile", "smoke", "--set", "epochs=1"]) == 0
    assert library.best("dispersion", within=library.folder()).complete
    assert main(["show", "dispersion"]) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "mine" / NAME) in printed
    assert str(library.book() / "results" / "dispersion.laptop.json") in printed
