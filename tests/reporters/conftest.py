"""Documents of checks made by hand, in the form that the schema of `edgekit check` describes."""

import pytest

HOSTILE = (
    "a|b`c<script>x</script>[l](http://evil.example)@someone #12 \x1b[31m\u202e\n::set-output name=a::b%"
)


def artifact(path):
    return {
        "path": path,
        "format": "tflite",
        "size_bytes": 23_200,
        "gzip_bytes": 20_600,
        "sha256": "b" * 64,
        "inputs": [],
        "outputs": [],
    }


def gate(name, verdict, **facts):
    empty = dict.fromkeys(("baseline", "candidate", "difference", "ci95", "n", "needed_n", "p_value"))
    return {
        "name": name,
        "verdict": verdict,
        "limit": 0.01,
        "unit": "fraction",
        "reason": f"The reason of {name}.",
        "details": {},
        **empty,
        **facts,
    }


def finding(code="EK401", level="warning", message="Some scores are equal.", hint="Use float outputs."):
    return {"code": code, "level": level, "message": message, "hint": hint}


def error_document(code="EK470", message="baseline.json is no baseline.", hint="Make it anew."):
    return {
        "schema_version": 1,
        "command": "check",
        "edgekit_version": "0.1.0",
        "status": "error",
        "findings": [],
        "result": {},
        "error": {"code": code, "message": message, "hint": hint},
    }


def check_document(*gates, exit_code=None, findings=(), model="int8.tflite"):
    verdicts = {item["verdict"] for item in gates}
    verdict = next(name for name in ("fail", "inconclusive", "pass") if name in verdicts)
    usual = {"fail": 1, "inconclusive": 6, "pass": 0}[verdict]
    baseline = {
        "path": "baseline.json",
        "created": "2026-01-01T00:00:00+00:00",
        "edgekit_version": "0.1.0",
        "model": artifact("model.tflite"),
        "data": "test.npz",
        "data_digest": "c" * 64,
        "preprocess": None,
        "metric": "top1",
        "unit": "fraction",
        "value": 0.98,
        "ci95": [0.97, 0.99],
        "n": 600,
        "runtime": "litert",
        "device": "local",
        "class_names": [],
        "reference": None,
        "lineage": None,
        "versions": {},
        "history": [],
        "checked": None,
    }
    result = {
        "verdict": verdict,
        "exit_code": usual if exit_code is None else exit_code,
        "model": artifact(model),
        "baseline": baseline,
        "data": "test.npz",
        "metric": "top1",
        "unit": "fraction",
        "n": 600,
        "alpha": 0.05,
        "alpha_spent": 0.05,
        "look": None,
        "power": 0.8,
        "method": "exact",
        "gates": list(gates),
        "plan": None,
        "seconds": 1.25,
    }
    return {
        "schema_version": 1,
        "command": "check",
        "edgekit_version": "0.1.0",
        "status": {"fail": "failed", "inconclusive": "inconclusive", "pass": "ok"}[verdict],
        "findings": list(findings),
        "result": result,
    }


@pytest.fixture
def three_gates():
    """One gate of each verdict."""
    return (
        gate(
            "accuracy",
            "pass",
            baseline=0.9867,
            candidate=0.985,
            difference=0.0017,
            ci95=[-0.0047, 0.0094],
            n=600,
        ),
        gate(
            "per_class", "inconclusive", limit=0.05, difference=0.018, ci95=[-0.05, 0.09], n=56, needed_n=1300
        ),
        gate(
            "size_bytes",
            "fail",
            limit=20_000,
            unit="bytes",
            baseline=80_128,
            candidate=23_200,
            difference=-56_928,
        ),
    )


@pytest.fixture
def documents(three_gates):
    """By name: a document for every way in which a check can end."""
    passed, unsure, failed = three_gates
    hostile_class = {
        "class": 0,
        "name": HOSTILE,
        "n": 56,
        "baseline": 0.98,
        "candidate": 0.96,
        "drop": 0.02,
        "drop_ci95": [-0.04, 0.09],
        "broken": 1,
        "fixed": 0,
        "p_value": 0.2,
        "verdict": "inconclusive",
    }
    hostile = gate(
        "per_class",
        "inconclusive",
        reason=f"{HOSTILE} has few samples.",
        details={"classes": [hostile_class] * 12},
    )
    return {
        "passed": check_document(passed),
        "failed": check_document(passed, unsure, failed, findings=[finding(), finding(level="note")]),
        "inconclusive": check_document(passed, unsure),
        "let through": check_document(passed, unsure, exit_code=0),
        "refused": check_document(passed, unsure, exit_code=1),
        "hostile": check_document(
            hostile, findings=[finding(message=HOSTILE, hint=HOSTILE)], model=f"models/{HOSTILE}"
        ),
        "one-sided": check_document(
            gate("accuracy", "pass", unit="dB", limit=3.0, ci95=[None, 2.0], difference=1.5)
        ),
        "error": error_document(),
        "hostile error": error_document(message=HOSTILE, hint=HOSTILE),
        "other command": {**check_document(passed, findings=[finding()]), "command": "inspect", "result": {}},
    }


@pytest.fixture
def hostile():
    """A name that would break every format, if it were not escaped."""
    return HOSTILE
