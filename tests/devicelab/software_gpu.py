"""A GPU that the processor plays: SwiftShader and a Vulkan loader, out of Debian's packages of Chromium."""

import platform
import shutil
import tempfile
from pathlib import Path

from devicelab.debian_root import cache_folder
from devicelab.processes import LabError, UnavailableError, call, find_program

_PACKAGE = "chromium-common"
_FILES = ("libvk_swiftshader.so", "vk_swiftshader_icd.json", "libvulkan.so.1")
_FETCH_S = 300
# No driver at all, also where this machine has a GPU.
NO_GPU = {"VK_ICD_FILENAMES": "/nowhere/icd.json", "VK_DRIVER_FILES": "/nowhere/icd.json"}


def software_gpu() -> dict[str, str]:
    """The environment in which Vulkan finds that GPU alone; its files are fetched once, and nothing is installed.

    Raises:
        UnavailableError: The package cannot be fetched on this machine.
    """
    if platform.machine() != "x86_64":
        raise UnavailableError("the GPU that the processor plays is tried on x86_64 alone")
    folder = cache_folder() / "swiftshader"
    if not all((folder / name).is_file() for name in _FILES):
        _fetch(folder)
    icd = str(folder / "vk_swiftshader_icd.json")
    return {"VK_ICD_FILENAMES": icd, "VK_DRIVER_FILES": icd, "LD_LIBRARY_PATH": str(folder)}


def _fetch(folder: Path) -> None:
    apt, dpkg = find_program("apt-get", "apt"), find_program("dpkg-deb", "dpkg")
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        temporary = Path(name)
        # Otherwise apt, as root, complains that its own user may not write here.
        temporary.chmod(0o755)
        try:
            call(
                apt, "-q", "-o", "APT::Sandbox::User=root", "download", _PACKAGE, cwd=name, timeout_s=_FETCH_S
            )
            [package] = temporary.glob("*.deb")
            call(dpkg, "-x", package, temporary / "unpacked", timeout_s=_FETCH_S)
        except (LabError, ValueError) as error:
            raise UnavailableError(f"apt-get download {_PACKAGE} does not work here") from error
        folder.mkdir(exist_ok=True)
        for file in _FILES:
            # Whole or not at all: several processes may do this at once.
            part = temporary / file
            shutil.copy(temporary / "unpacked/usr/lib/chromium" / file, part)
            part.replace(folder / file)
