"""What a Raspberry Pi's firmware and Android's services print, as conditions."""

from edgekit.bench import with_state
from edgekit.measurement import Conditions, throttled

ANDROID = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 83
  scale: 100
  voltage: 4123
  temperature: 297
  technology: Li-ion
IsStatusOverride: false
ThermalEventListeners:
Thermal Status: {status}
Cached temperatures:
"""


def test_a_raspberry_pi_tells_its_flags():
    cool = with_state(Conditions(0.0), "throttled=0x0\n")
    hot = with_state(Conditions(0.0), "throttled=0x50005\n")
    assert (cool.throttle_flags, hot.throttle_flags) == (0, 0x50005)
    assert throttled(cool, hot) is True
    # Throttled since it was switched on, and not now nor again.
    assert (
        throttled(
            with_state(Conditions(0.0), "throttled=0x50000"), with_state(Conditions(0.0), "throttled=0x50000")
        )
        is False
    )


def test_android_tells_battery_and_thermal_status():
    cool, hot = (with_state(Conditions(0.0), ANDROID.format(status=status)) for status in (0, 2))
    assert (cool.battery_pct, cool.battery_temperature_c, cool.powered) == (83.0, 29.7, True)
    assert (cool.thermal_status, hot.thermal_status) == (0, 2)
    assert throttled(cool, hot) is True
    assert throttled(hot, hot) is False


def test_what_is_not_told_stays_unknown():
    assert with_state(Conditions(0.0), "") == Conditions(0.0)
    assert with_state(Conditions(0.0), "throttled=soon\nThermal Status: unknown\nlevel: many") == Conditions(
        0.0
    )
