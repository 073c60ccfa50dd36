"""Check a built wheel: what it holds, and that it works in a clean environment without extras.

python tests/wheel_smoke.py DIST
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

PACKAGE = "napari_denoise_classify"
WEIGHTS = f"{PACKAGE}/core/denoise/weights"
MAX_SIZE = 25e6  # bytes

USE = f"""
import importlib, numpy, {PACKAGE}
for name in ("napari", "qtpy"):  # magicgui brings qtpy, which refuses to be imported without Qt
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise SystemExit(f"{{name}} can be imported without extras.")
image = numpy.random.default_rng(0).integers(0, 256, (32, 32), dtype=numpy.uint8)
for step in ("median", "dncnn", "bm3d", "unet"):
    clean = {PACKAGE}.denoise(image, step)
    assert clean.shape == image.shape and clean.dtype == image.dtype and (clean != image).any(), step
"""


def check_contents(wheel: Path) -> None:
    size = wheel.stat().st_size
    names = ZipFile(wheel).namelist()
    wanted = [f"{PACKAGE}/napari.yaml", f"{PACKAGE}/py.typed", f"{WEIGHTS}/registry.json"]
    missing = [name for name in wanted if name not in names]
    if not any(name.startswith(WEIGHTS) and name.endswith(".safetensors") for name in names):
        missing.append(f"{WEIGHTS}/*.safetensors")
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}.")
    if size > MAX_SIZE:
        sys.exit(f"{wheel.name} has {size / 1e6:.1f} MB; {MAX_SIZE / 1e6:.0f} MB are allowed.")
    print(f"{wheel.name}: {size / 1e6:.1f} MB, {len(names)} files")


def check_use(wheel: Path) -> None:
    def run(*command: str | Path) -> None:
        print("$", *(str(part) if "\n" not in str(part) else "..." for part in command), flush=True)
        subprocess.run(command, cwd=folder, env=env, check=True, stdin=subprocess.DEVNULL)

    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    # On the disk of uv's files, which it then links rather than copies: PyTorch has some GB.
    beside = Path(cache).parent
    where = beside if os.access(beside, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="wheel-smoke-") as folder:
        scripts = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin")
        run("uv", "venv", "--quiet", "--python", sys.executable, "venv")
        run("uv", "pip", "install", "--quiet", "--python", scripts / "python", wheel)
        run(scripts / "napari-denoise-classify", "steps")
        run(scripts / "python", "-I", "-c", USE)


if __name__ == "__main__":
    (wheel,) = Path(sys.argv[1]).resolve().glob("*.whl")
    check_contents(wheel)
    check_use(wheel)
