"""What the commands for devices have in common."""

from edgekit.cli._devices import findings_of
from edgekit.findings import Finding


def test_what_two_devices_share_is_said_once_and_the_rest_with_the_device_named():
    shared = Finding("EK403", "The metric is top1.")
    noisy, lost = Finding("EK501", "m.tflite: noisy."), Finding("EK861", "The link to phone was lost.")
    found = findings_of({"pi": [shared, noisy], "phone": [shared, lost]})
    assert [finding.message for finding in found] == [
        "The metric is top1.",
        "pi: m.tflite: noisy.",
        "The link to phone was lost.",
    ]
    assert [finding.code for finding in found] == ["EK403", "EK501", "EK861"]


def test_the_findings_of_one_device_stay_as_they_are():
    finding = Finding("EK501", "m.tflite: noisy.")
    assert findings_of({"pi": [finding, finding]}) == [finding]
