"""The gate: verdicts on candidates whose every answer is known, and a sentence for what cannot be judged."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.looks import looks_path


def check(pair, folder, n=3000, limits=None, *, data=None, **options):
    """A candidate against a baseline on the same made data; ``data`` goes to the making of them."""
    spec = pair.data(folder / "d.npz", n, **(data or {}))
    if not (folder / "b.json").exists():
        edgekit.create_baseline(pair.baseline, spec, folder / "b.json", latency=False)
    return edgekit.check(pair.candidate, folder / "b.json", limits=limits or {}, **options)


def gate(found, name="accuracy"):
    return next(gate for gate in found.gates if gate.name == name)


def codes(found):
    return [finding.code for finding in found.findings]


def test_a_small_drop_passes(pair, tmp_path):
    found = check(pair, tmp_path, data={"broken": 9, "fixed": 3})
    accuracy = gate(found)
    assert found.verdict == "pass"
    assert found.exit_code == 0
    assert (accuracy.details["broken"], accuracy.details["fixed"]) == (9, 3)
    assert accuracy.difference == pytest.approx(6 / 3000)
    assert accuracy.candidate == pytest.approx(accuracy.baseline - 6 / 3000)
    assert accuracy.ci95.low < 6 / 3000 < accuracy.ci95.high < 0.01
    assert accuracy.p_value < 0.05
    # 2 * P(X <= 3) for X of Bin(12, 1/2): (1 + 12 + 66 + 220) / 2048
    assert accuracy.details["mcnemar_p"] == pytest.approx(299 / 2048)


def test_a_large_drop_fails(pair, tmp_path):
    found = check(pair, tmp_path, data={"broken": 75, "fixed": 5})
    assert found.verdict == "fail"
    assert found.exit_code == 1
    assert gate(found).p_value < 0.05
    assert "a true one within 1.00 points is excluded" in found.sentence()


def test_few_samples_are_inconclusive_and_say_how_many_it_takes(pair, tmp_path):
    found = check(pair, tmp_path, 300, data={"broken": 5, "fixed": 3})
    assert found.verdict == "inconclusive"
    assert found.exit_code == 6
    # 3% of the samples differ: Connor's formula gives 1,851 from no drop to one point.
    assert gate(found).needed_n == pytest.approx(1851, rel=0.01)
    assert "1,5" in gate(found).reason
    assert "more." in gate(found).reason


def test_a_drop_near_the_limit_needs_no_number_of_samples(pair, tmp_path):
    found = check(pair, tmp_path, 3000, data={"broken": 31, "fixed": 1})
    assert found.verdict == "inconclusive"
    assert gate(found).needed_n is None
    assert "near the limit" in gate(found).reason


def test_only_some_of_the_samples(pair, tmp_path):
    check(pair, tmp_path, 900)
    found = edgekit.check(pair.candidate, tmp_path / "b.json", samples=90)
    assert gate(found).n == 90
    assert "EK484" in codes(found)


def test_samples_are_paired_by_content_not_by_place(pair, tmp_path):
    check(pair, tmp_path, 600, data={"broken": 20})
    with np.load(tmp_path / "d.npz") as arrays:
        np.savez(tmp_path / "reversed.npz", x=arrays["x"][::-1], y=arrays["y"][::-1])
    straight = edgekit.check(pair.candidate, tmp_path / "b.json")
    turned = edgekit.check(pair.candidate, tmp_path / "b.json", data=tmp_path / "reversed.npz")
    assert gate(turned).details == gate(straight).details
    assert gate(turned).details["broken"] == 20


def test_a_class_that_suffers_is_seen_by_its_own_gate_alone(pair, tmp_path):
    limits = {"max_drop": 0.02, "per_class_max_drop": 0.02}
    found = check(pair, tmp_path, 6000, limits, data={"broken": 90, "of_class": 1})
    assert gate(found).verdict == "pass"
    per_class = gate(found, "per_class")
    assert per_class.verdict == "fail"
    assert per_class.details["class"] == "1"
    verdicts = {item["class"]: item["verdict"] for item in per_class.details["classes"]}
    assert verdicts == {0: "pass", 1: "fail", 2: "pass"}
    assert found.verdict == "fail"
    assert per_class.difference == pytest.approx(90 / 2000)


def test_classes_pass_together_or_wait_together(pair, tmp_path):
    found = check(pair, tmp_path, 300, {"per_class_max_drop": 0.02})
    assert gate(found, "per_class").verdict == "inconclusive"
    assert gate(found, "per_class").needed_n > 100
    (tmp_path / "b.json").unlink()
    assert gate(check(pair, tmp_path, 3000, {"per_class_max_drop": 0.02}), "per_class").verdict == "pass"


def test_sizes_are_exact(pair, tmp_path):
    size = pair.candidate.stat().st_size
    limits = {"size_bytes": size, "gzip_bytes": 10}
    found = check(pair, tmp_path, limits=limits)
    assert gate(found, "size_bytes").verdict == "pass"
    assert gate(found, "size_bytes").candidate == size
    assert gate(found, "gzip_bytes").verdict == "fail"
    assert gate(check(pair, tmp_path, limits={"size_bytes": size - 1}), "size_bytes").verdict == "fail"


def test_metrics_without_right_and_wrong_are_resampled(pair, tmp_path):
    spec = pair.data(tmp_path / "d.npz", 400, broken=100)
    options = {"metric": "mse", "reference": pair.baseline, "latency": False}
    with np.load(spec) as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"])
    edgekit.create_baseline(pair.baseline, tmp_path / "x.npz", tmp_path / "b.json", **options)
    with pytest.raises(UsageError, match="no usual one"):
        edgekit.check(pair.candidate, tmp_path / "b.json")
    # 100 of 400 samples have one of three outputs changed by 20: an error of 400 / 12 on average.
    found = edgekit.check(pair.candidate, tmp_path / "b.json", limits={"max_drop": 10.0})
    assert found.verdict == "fail"
    assert gate(found).difference == pytest.approx(400 / 12, rel=0.01)
    assert edgekit.check(pair.candidate, tmp_path / "b.json", limits={"max_drop": 60.0}).verdict == "pass"
    assert (
        edgekit.check(pair.candidate, tmp_path / "b.json", limits={"max_drop": 33.0}).verdict
        == "inconclusive"
    )
    assert "EK487" in codes(edgekit.check(pair.candidate, tmp_path / "b.json", limits={"size_bytes": 10**6}))
    with pytest.raises(UsageError, match="no right and wrong per class"):
        edgekit.check(
            pair.candidate, tmp_path / "b.json", limits={"per_class_max_drop": 0.1, "max_drop": 60.0}
        )


def test_other_data_are_refused_by_what_differs(pair, tmp_path):
    check(pair, tmp_path, 300)
    with np.load(tmp_path / "d.npz") as arrays:
        x, y = arrays["x"].copy(), arrays["y"].copy()

    def refused(**arrays):
        np.savez(tmp_path / "other.npz", **arrays)
        with pytest.raises(DataError) as caught:
            edgekit.check(pair.candidate, tmp_path / "b.json", data=tmp_path / "other.npz")
        assert caught.value.code == "EK472"
        return caught.value.message

    changed = x.copy()
    changed[7] += 1
    changed[12] += 1
    assert refused(x=changed, y=y) == "2 of 300 samples are not among the 300 of b.json, first sample 7."
    assert refused(x=x.astype(np.float64), y=y).startswith("None of the 300 samples is among")
    other = y.copy()
    other[3] = (other[3] + 1) % 3
    assert refused(x=x, y=other) == "1 of 300 labels differ from those of b.json, first that of sample 3."
    assert refused(x=np.vstack([x, x[:1]]), y=np.append(y, y[0])).startswith("1 of 301 samples")


def test_labels_of_another_type_are_the_same_labels(pair, tmp_path):
    check(pair, tmp_path, 300)
    with np.load(tmp_path / "d.npz") as arrays:
        np.savez(tmp_path / "u8.npz", x=arrays["x"], y=arrays["y"].astype(np.uint8))
    assert gate(edgekit.check(pair.candidate, tmp_path / "b.json", data=tmp_path / "u8.npz")).n == 300


def test_missing_labels_are_missed(pair, tmp_path):
    check(pair, tmp_path, 300)
    with np.load(tmp_path / "d.npz") as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"])
    with pytest.raises(DataError):
        edgekit.check(pair.candidate, tmp_path / "b.json", data=tmp_path / "x.npz")


def test_a_baseline_does_not_say_which_code_is_run(pair, tmp_path):
    check(pair, tmp_path, 60)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\ndef samples(): yield from ()\n")
    stored = edgekit.Baseline.read(tmp_path / "b.json")
    replace(stored, data=f"{tmp_path / 'evil.py'}:samples").save(tmp_path / "b.json")
    with pytest.raises(UsageError, match="come from the function"):
        edgekit.check(pair.candidate, tmp_path / "b.json")
    assert not (tmp_path / "run").exists()
    assert edgekit.check(pair.candidate, tmp_path / "b.json", data=tmp_path / "d.npz").gates


def test_a_device_in_the_place_of_a_reference_is_not_read(pair, tmp_path):
    spec = pair.data(tmp_path / "d.npz", 60)
    options = {"metric": "agreement", "reference": pair.baseline, "latency": False}
    edgekit.create_baseline(pair.baseline, spec, tmp_path / "b.json", **options)
    stored = edgekit.Baseline.read(tmp_path / "b.json")
    replace(stored, reference={**stored.reference, "path": "/dev/zero"}).save(tmp_path / "b.json")
    with pytest.raises(ModelError, match="not the reference"):
        edgekit.check(pair.candidate, tmp_path / "b.json")


def test_other_classes_are_another_question(pair, tmp_path):
    check(pair, tmp_path, 300)
    five = pair.linear(tmp_path / "five.onnx", np.ones((4, 5)))
    with pytest.raises(ModelError, match=r"gives 5 values per sample, the baseline's model 3"):
        edgekit.check(five, tmp_path / "b.json")


def test_another_reference_is_refused(pair, tmp_path):
    spec = pair.data(tmp_path / "d.npz", 60)
    edgekit.create_baseline(
        pair.baseline, spec, tmp_path / "b.json", metric="agreement", reference=pair.baseline, latency=False
    )
    assert edgekit.check(pair.candidate, tmp_path / "b.json").evaluation.metric == "agreement"
    with pytest.raises(ModelError, match="not the reference"):
        edgekit.check(pair.candidate, tmp_path / "b.json", reference=pair.candidate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_dorp = 0.01", "no limit in .* named 'max_dorp'"),
        ("max_drop = '1%'", "must be a number"),
        ("max_drop = -0.1", "must be from 0"),
        ("max_drop = nan", "must be from 0"),
        ("max_drop = 1.5", "which is 150 points"),
        ("size_bytes = 1.5", "must be a number"),
        ("alpha = 0.9", "must be from 0.0001 to 0.5"),
        ("max_drop = = 1", "cannot be read as a budget"),
        ("[accuracy]\nmax_drop = 0.1", "no limit in .* named 'accuracy'"),
    ],
)
def test_a_budget_with_a_mistake(pair, tmp_path, text, message):
    (tmp_path / "budget.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        check(pair, tmp_path, 60, budget=tmp_path / "budget.toml")


def test_options_go_before_the_budget(pair, tmp_path):
    (tmp_path / "budget.toml").write_text("max_drop = 0.5\nsize_bytes = 10\nalpha = 0.01\n")
    found = check(pair, tmp_path, 300, {"max_drop": 0.4}, budget=tmp_path / "budget.toml")
    assert {gate.name: gate.limit for gate in found.gates} == {"accuracy": 0.4, "size_bytes": 10}
    assert found.alpha_spent == 0.01


def test_looks_are_counted_and_spend_alpha_once(pair, tmp_path):
    first = check(pair, tmp_path, 900, sequential=True)
    again = edgekit.check(pair.candidate, tmp_path / "b.json", sequential=True)
    other = edgekit.check(pair.baseline, tmp_path / "b.json", sequential=True)
    assert [first.look, again.look, other.look] == [1, 1, 2]
    assert first.alpha_spent == pytest.approx(0.05 * 6 / np.pi**2)
    assert other.alpha_spent == pytest.approx(first.alpha_spent / 4)
    assert edgekit.check(pair.candidate, tmp_path / "b.json").look is None
    looks_path(tmp_path / "b.json").write_text("{")
    with pytest.raises(DataError, match="should count the looks"):
        edgekit.check(pair.candidate, tmp_path / "b.json", sequential=True)


@pytest.mark.slow
def test_checks_at_once_count_each_look_and_damage_nothing(pair, tmp_path):
    check(pair, tmp_path, 300)
    before = (tmp_path / "b.json").read_bytes()
    weights = np.vstack([np.eye(3), np.zeros(3)])
    models = [pair.linear(tmp_path / f"{number}.onnx", weights * (1 + number)) for number in range(4)]
    script = (
        "import sys, edgekit; print(edgekit.check(sys.argv[1], sys.argv[2], sequential=True, workers=1).look)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(model), str(tmp_path / "b.json")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for model in models
    ]
    assert sorted(int(process.communicate()[0]) for process in started) == [1, 2, 3, 4]
    assert (tmp_path / "b.json").read_bytes() == before
    assert len(json.loads(looks_path(tmp_path / "b.json").read_text())["looks"]) == 4


@pytest.mark.slow
def test_a_plan_says_how_many_samples(pair, tmp_path):
    found = check(pair, tmp_path, 300, {"max_drop": 0.01}, data={"broken": 5, "fixed": 4}, plan=True)
    plan = found.plan.describe()
    assert plan["discordance"] == 0.03
    rows = {
        row["discordance"]: dict(zip(plan["drops"], row["needed_n"], strict=True)) for row in plan["rows"]
    }
    assert rows[0.03][0.0] == 1851
    assert rows[0.05][0.02] == 3079
    assert rows[0.01][0.02] is None
    assert found.gates == ()
    assert found.describe()["verdict"] is None


@pytest.mark.slow
def test_the_command_ends_with_the_code_of_the_verdict(pair, tmp_path, capsys):
    check(pair, tmp_path, 300)
    arguments = ["check", str(pair.candidate), "--baseline", str(tmp_path / "b.json")]
    assert run([*arguments, "--max-drop", "0.1"]) == 0
    assert "PASS" in capsys.readouterr().out
    assert run([*arguments, "--max-drop", "0.001", "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "inconclusive"
    assert document["result"]["exit_code"] == 6
    assert run([*arguments, "--max-drop", "0.001", "--inconclusive", "warn"]) == 0
    assert "EK486" in capsys.readouterr().err
    assert run([*arguments, "--limit", "size_bytes=10"]) == 1
    assert run([*arguments, "--limit", "size_byte=10"]) == 2
    assert "Did you mean size_bytes?" in capsys.readouterr().err
    assert run([*arguments, "--limit", "size_bytes"]) == 2
    assert run([*arguments, "--plan", "--max-drop", "0.02"]) == 0
    assert "Samples for the right verdict" in capsys.readouterr().out


@pytest.mark.slow
def test_latency_is_measured_in_turn_with_the_baselines_model(pair, tmp_path):
    limits = {"latency_ratio": 3.0, "latency_ms": 50.0, "peak_memory_bytes": 10**9, "placement_pct": 10}
    found = check(pair, tmp_path, 60, limits, max_seconds=0.5)
    ratio = gate(found, "latency_ratio")
    assert ratio.verdict == "pass"
    assert 0.5 < ratio.candidate < 2
    assert ratio.details["noise_floor"] >= 1
    assert "measured in turn with baseline.onnx" in ratio.details["compared"]
    assert gate(found, "latency_ms").candidate < 50
    # ONNX Runtime does not tell which kernels are fast.
    assert gate(found, "placement_pct").verdict == "inconclusive"


@pytest.mark.slow
def test_a_slower_model_fails_the_latency_gate(pair, tmp_path):
    rng = np.random.default_rng(0)
    big = {name: rng.normal(size=(2000, 3)) for name in ("fast", "slow")}
    fast = pair.linear(tmp_path / "fast.onnx", big["fast"])
    slow = slow_linear(tmp_path / "slow.onnx")
    np.savez(tmp_path / "x.npz", x=rng.normal(size=(20, 2000)).astype(np.float32), y=np.arange(20) % 3)
    edgekit.create_baseline(fast, tmp_path / "x.npz", tmp_path / "b.json", latency=False)
    limits = {"max_drop": 0.9, "latency_ratio": 1.2}
    found = edgekit.check(slow, tmp_path / "b.json", limits=limits, max_seconds=0.5)
    assert gate(found, "latency_ratio").candidate > 2
    # On a machine that is busy elsewhere the noise floor may be higher than that.
    assert (
        gate(found, "latency_ratio").verdict == "fail"
        or gate(found, "latency_ratio").details["noise_floor"] > 2
    )


def slow_linear(path):
    """The same input and output with a few hundred times the work between them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(size=(2000, 500)).astype(np.float32)
    last = np.ones((500, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])],
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(last, "v")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def moved(pair, tmp_path, *, change=None):
    """A baseline with stored latencies whose model is gone."""
    spec = pair.data(tmp_path / "d.npz", 60)
    model = tmp_path / "gone.onnx"
    model.write_bytes(pair.baseline.read_bytes())
    edgekit.create_baseline(model, spec, tmp_path / "b.json", max_seconds=0.5)
    model.unlink()
    if change:
        found = edgekit.Baseline.read(tmp_path / "b.json")
        replace(found, benchmark=change(found.benchmark)).save(tmp_path / "b.json")
    options = {"limits": {"max_drop": 0.5, "latency_ratio": 5.0}, "max_seconds": 0.5}
    return edgekit.check(pair.candidate, tmp_path / "b.json", **options)


@pytest.mark.slow
def test_without_the_model_stored_latencies_are_used_where_the_machine_is_the_same(pair, tmp_path):
    ratio = gate(moved(pair, tmp_path), "latency_ratio")
    assert ratio.verdict == "pass" or "drifting" in ratio.reason
    assert ratio.verdict == "inconclusive" or "latencies stored" in ratio.details["compared"]


@pytest.mark.slow
def test_latencies_of_another_machine_are_not_compared(pair, tmp_path):
    def elsewhere(record):
        return replace(record, before=replace(record.before, cpu_model="Cortex-A72"))

    ratio = gate(moved(pair, tmp_path, change=elsewhere), "latency_ratio")
    assert ratio.verdict == "inconclusive"
    assert "cpu_model was Cortex-A72" in ratio.reason


@pytest.mark.slow
def test_without_latencies_there_is_no_ratio(pair, tmp_path):
    spec, model = pair.data(tmp_path / "d.npz", 60), tmp_path / "gone.onnx"
    model.write_bytes(pair.baseline.read_bytes())
    edgekit.create_baseline(model, spec, tmp_path / "b.json", latency=False)
    model.unlink()
    options = {"limits": {"max_drop": 0.5, "latency_ratio": 5.0}, "max_seconds": 0.2}
    ratio = gate(edgekit.check(pair.candidate, tmp_path / "b.json", **options), "latency_ratio")
    assert ratio.verdict == "inconclusive"
    assert "has no latencies, and its model gone.onnx is not at hand" in ratio.reason
    with pytest.raises(ModelError, match="not the model that the baseline was made of"):
        edgekit.check(pair.candidate, tmp_path / "b.json", baseline_model=Path(pair.candidate), **options)
    named = edgekit.check(pair.candidate, tmp_path / "b.json", baseline_model=pair.baseline, **options)
    assert gate(named, "latency_ratio").verdict == "pass"
