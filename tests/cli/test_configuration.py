"""Where settings come from: flags, environment variables and a file."""

import json


def test_the_command_line_wins_over_environment_over_file_over_default(nfbench, elsewhere, monkeypatch):
    def seen(*more):
        planned = json.loads(nfbench("plan", "-d", "random", "-a", "fgsm", *more, "--json").out)
        return {cell["cell"].split("linf-")[1].split("--")[0] for cell in planned["cells"]}

    (elsewhere / "x.toml").write_text('eps = ["0.11"]\nlimit = 20\n')
    assert seen() == {"0.25"}
    assert seen("--config", "x.toml") == {"0.11"}
    monkeypatch.setenv("NFBENCH_CONFIG", "x.toml")
    assert seen() == {"0.11"}
    monkeypatch.setenv("NFBENCH_EPS", "0.12")
    assert seen() == {"0.12"}
    assert seen("--eps", "0.13") == {"0.13"}


def test_every_flag_can_stand_in_a_file(nfbench, elsewhere, tiny):
    (elsewhere / "x.toml").write_text(
        "defense = 'max-softmax'\nattacks = ['fgsm']\nthreat-model = 'partial-whitebox'\n"
        "dataset = 'digits'\nmodel = 'digits-mlp'\nlimit = 20\nseed = 0\ndevice = 'cpu'\n"
        "out = 'r'\ncache-dir = 'c'\n[set.training]\nepochs = 1\n"
    )
    by_file = json.loads(nfbench("plan", "--config", "x.toml", "--json").out)
    assert by_file["plan"] == json.loads(nfbench("plan", *tiny, "--json").out)["plan"]


def test_settings_of_file_and_flags_are_merged_knob_by_knob(nfbench, elsewhere):
    (elsewhere / "x.toml").write_text("[set.training]\nepochs = 1\nbatch_size = 32\n")

    def plan(*more):
        return json.loads(nfbench("plan", "-d", "random", "-a", "fgsm", *more, "--json").out)["plan"]

    both = plan("--set", "training.epochs=2", "--set", "training.batch_size=32")
    assert plan("--config", "x.toml", "--set", "training.epochs=2") == both


def test_a_flag_that_leaves_a_plugin_out_leaves_its_settings_in_the_file_out(nfbench, elsewhere):
    (elsewhere / "x.toml").write_text(
        "defense = ['kd', 'random']\nattacks = 'fgsm'\n[set.kd]\nbandwidth = 1.0\n"
    )

    def plan(*more):
        return nfbench("plan", "--config", "x.toml", "--json", *more)

    alone = nfbench("plan", "-d", "random", "-a", "fgsm", "--json")
    assert json.loads(plan("-d", "random").out)["plan"] == json.loads(alone.out)["plan"]
    assert "--set kd.… has no effect" in plan("-d", "random", "--set", "kd.bandwidth=2.0").err
    (elsewhere / "x.toml").write_text("defense = 'random'\n[set.kd]\nbandwidth = 1.0\n")
    assert "--set kd.… has no effect" in plan().err
    (elsewhere / "x.toml").write_text("[set.kdd]\nbandwidth = 1.0\n")
    assert "nothing is called 'kdd'" in plan("-d", "random").err
