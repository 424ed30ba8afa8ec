"""What programs and files of real systems say is read right, and nonsense is read as nothing."""

import pytest

from edgekit.devices import probe_texts
from edgekit.devices.probe_texts import Battery, Clocks, Libc, Memory


@pytest.mark.parametrize(
    ("text", "kind", "version"),
    [
        ("glibc 2.31\nldd (Debian GLIBC 2.31-13+rpt2+rpi1+deb11u8) 2.31", "glibc", "2.31"),
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35\nCopyright (C) 2022", "glibc", "2.35"),
        ("ldd (GNU libc) 2.39\nCopyright (C) 2024", "glibc", "2.39"),
        ("GNU C Library (Buildroot) stable release version 2.38.", "glibc", "2.38"),
        (
            "sh: getconf: not found\nmusl libc (armhf)\nVersion 1.1.24\nDynamic Program Loader",
            "musl",
            "1.1.24",
        ),
        ("sh: getconf: inaccessible or not found\nbionic", "bionic", None),
        # gcompat lets some programs for glibc run on musl, and answers for it.
        ("glibc 2.8\nmusl libc (x86_64)\nVersion 1.2.5", "musl", "1.2.5"),
    ],
)
def test_libc(text, kind, version):
    assert probe_texts.libc(text) == Libc(kind, version)


def test_a_libc_that_says_nothing_is_unknown():
    assert probe_texts.libc("sh: ldd: not found\nsh: getconf: not found") is None


def test_versions_are_compared_as_numbers():
    assert Libc("glibc", "2.9").number < Libc("glibc", "2.30").number
    assert Libc("bionic").number is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/dev/root   30358480 5210336 23843276  18% /", (23843276 * 1024, "/")),
        ("tmpfs           8192    8192        0 100% /mnt/small disk", (0, "/mnt/small disk")),
        # More used than what is left to users: ext4 keeps blocks for root.
        ("/dev/mapper/my disk 1000 990 -10 101% /srv", (0, "/srv")),
        ("df: /x: can't find mount point", (None, None)),
        ("", (None, None)),
    ],
)
def test_free_disk(line, expected):
    assert probe_texts.free_disk(line) == expected


def test_memory_without_an_estimate_of_what_is_available():
    """Kernels before 3.14 give none."""
    text = "MemTotal:         512000 kB\nMemFree:          100000 kB\nSwapTotal:             0 kB"
    assert probe_texts.memory(text) == Memory(512000 * 1024, None, 0)


@pytest.mark.parametrize(
    ("vcgencmd", "sysfs", "expected"),
    [
        ("throttled=0x0", "", 0),
        ("throttled=0x50005", "0", 0x50005),
        ("", "d0008", 0xD0008),
        ("VCHI initialization failed", "50000", 0x50000),
        ("Can't open device file: /dev/vcio\nTry creating a device file with: mknod", "", None),
        ("", "", None),
    ],
)
def test_throttle_flags(vcgencmd, sysfs, expected):
    assert probe_texts.throttle_flags(vcgencmd, sysfs) == expected


def test_names_of_flags():
    """0x50005 is 0101 0000 0000 0000 0101: bits 0, 2, 16 and 18."""
    assert probe_texts.flag_names(0x50005) == (
        ("under_voltage", "throttled"),
        ("under_voltage", "throttled"),
    )
    assert probe_texts.flag_names(0xA0008) == (
        ("soft_temperature_limit",),
        ("frequency_capped", "soft_temperature_limit"),
    )


@pytest.mark.parametrize(
    ("zones", "sensors", "expected"),
    [
        ("cpu-thermal|48312", "", 48.312),
        # A disk, a wireless card and a case that are hotter than the processor do not count.
        ("iwlwifi_1|71000\nacpitz|96000\nx86_pkg_temp|63000", "nvme|80000\ncoretemp|64000", 64.0),
        ("acpitz|41000", "", 41.0),
        ("cpu-thermal|", "", None),
        # What broken sensors show.
        ("cpu0|-274000\ncpu1|50000\ncpu2|999000", "", 50.0),
        ("", "", None),
    ],
)
def test_temperature(zones, sensors, expected):
    assert probe_texts.temperature_c(zones, sensors) == expected


def test_the_limit_of_the_clock_is_that_of_the_fastest_cores():
    lines = "a|x|300000|1800000|1800000|0 1\na|x|500000|2000000|2800000|2 3\na|x|900000|2300000|2300000|4"
    assert probe_texts.clocks(lines) == Clocks(("a",), ("x",), 900.0, 2000.0, 2800.0)


def test_clocks_that_the_kernel_hides():
    assert probe_texts.clocks("performance|cppc|||<unknown>|0") == Clocks(("performance",), ("cppc",))
    assert probe_texts.clocks("", "cpu MHz\t\t: 899.612\ncpu MHz\t\t: 3912.310").now_mhz == 3912.31


def test_a_laptop_is_powered_by_its_mains():
    plugged = "Mains||||1|\nBattery||87|Not charging||\nBattery|Device|12|Discharging|1|"
    assert probe_texts.linux_battery(plugged) == Battery(87.0, None, True)
    unplugged = plugged.replace("Mains||||1|", "Mains||||0|").replace("Not charging", "Discharging")
    assert probe_texts.linux_battery(unplugged) == Battery(87.0, None, False)
    assert probe_texts.linux_battery("Battery|Device|12|Discharging|1|") is None
    assert probe_texts.linux_battery("Battery|System|50|Charging||301") == Battery(50.0, 30.1, True)


def test_a_box_without_a_battery_says_so():
    text = (
        "Current Battery Service state:\n  AC powered: true\n  present: false\n  level: 100\n  scale: 100\n"
    )
    assert probe_texts.android_battery(text) is None
    assert probe_texts.android_battery("") is None


def test_temperatures_of_the_moment_go_before_remembered_ones():
    text = (
        "Cached temperatures:\n\tTemperature{mValue=99.0, mType=0, mName=BIG, mStatus=0}\n"
        "Current temperatures from HAL:\n\tTemperature{mValue=41.5, mType=3, mName=skin, mStatus=0}\n"
        "\tTemperature{mValue=61.0, mType=0, mName=BIG, mStatus=0}\n"
        "\tTemperature{mValue=NaN, mType=0, mName=MID, mStatus=0}\n"
    )
    assert probe_texts.android_temperature_c(text) == 61.0
    assert probe_texts.android_temperature_c(text.partition("\tTemperature{mValue=61")[0]) == 41.5
    assert probe_texts.android_temperature_c("HAL Ready: false") is None
