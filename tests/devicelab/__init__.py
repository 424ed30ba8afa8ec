"""Devices to test with: real programs at the far end of real links, with faults on demand.

- Tier 1, ``sshd``: an unprivileged sshd on loopback, for any user; ``faultproxy`` stands in front of it.
- Tier 2, ``fake_pi``: a Debian arm64 root on an emulated Cortex-A72 that looks like a Raspberry Pi 4.
- Tier 3, ``fake_phone``: Android's adbd in an arm64 root, in a network of its own with the adb client.
- Tier 4, ``vm``: a whole arm64 machine with a kernel of its own, for power loss. On demand: EDGEKIT_LAB_VM=1.

``fixtures`` offers them to every test. A tier that this machine cannot build skips its tests and says why in one
line. Whatever the lab starts ends with the test process, even one that is killed: processes get the kernel's
parent-death signal, and mounts live in mount namespaces that go with their last process.
"""
