import json
import subprocess
import sys

import pytest

from helpers import experiments
from helpers.__main__ import main


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
    assert content["provenance"]["data"].startswith("digits")
    assert main(["show", name, "--out", str(tmp_path)]) == 0
    assert main(["verify", "--out", str(tmp_path)]) == 0
    assert "complete" in capsys.readouterr().out


def test_verify_fails_on_an_edited_artefact(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert main(["verify", "--out", str(tmp_path)]) == 1
    assert "1 artefacts, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing", "--profile", "smoke"], "there is no experiment 'nothing'"),
        (["run", "resnet18-grid", "--profile", "huge"], "no profile 'huge'"),
        (["run", "resnet18-grid", "--profile", "smoke", "--set", "k=many"], "k takes a whole number"),
        (["run", "resnet18-grid", "--profile", "smoke", "--budget", "soon"], "--budget takes a time"),
        (["show", "resnet18-grid", "--out", "nowhere"], "there is no artefact of resnet18-grid"),
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
