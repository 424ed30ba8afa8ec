"""Write the digits of examples/digits as a scanner gives them, 8 x 8 counts of 0 to 16, and one of them as text."""

from pathlib import Path

import numpy as np

DIGITS = Path(__file__).resolve().parent.parent / "digits"

for name in ("calibration.npz", "test.npz"):
    with np.load(DIGITS / name) as archive:
        counts, labels = np.rint(archive["x"] * 16).astype(np.uint8), archive["y"]
    np.savez(name, x=counts, y=labels)

# The last file is the test set; its first sample is what serve.py is asked about.
Path("digit.txt").write_text(" ".join(map(str, counts[0].ravel())) + "\n", encoding="ascii")
print(f"digit.txt is a {labels[0]}")
