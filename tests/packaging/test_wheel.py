"""What is uploaded works: sdist and wheel are built, and the wheel alone is installed into an empty environment and used."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_wheel_and_sdist(tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")

    packed = zipfile.ZipFile(wheel).namelist()
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.suffix in (".py", ".lua") or path.name == "py.typed"
    }
    assert sources <= set(packed)
    assert all(entry.startswith("forebay") for entry in packed), "nothing but the package"
    with tarfile.open(sdist) as archive:
        assert {Path(entry).parts[1] for entry in archive.getnames() if len(Path(entry).parts) > 1} >= {
            "src",
            "tests",
            "LICENSE",
            "README.md",
        }

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, "--constraint", ROOT / "constraints.txt"],
        check=True,
        capture_output=True,
    )
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"], check=True, capture_output=True, text=True
    ).stdout
    names = {line.partition("==")[0] for line in installed.split()}
    assert names - {"pip", "setuptools"} == {"forebay", "hiredis", "msgspec"}, "core dependencies stay at two"
    program = (
        "import forebay; from forebay import *; from forebay import Forebay, AsyncForebay\n"
        "try: Forebay('redis://127.0.0.1:1').connect()\n"
        "except forebay.ConnectFailed as error: print(forebay.__version__, error)"
    )
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "127.0.0.1:1" in done.stdout
