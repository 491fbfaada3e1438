# Writes a requirements file: each package named with its version, and the SHA-256 of every wheel that this project can
# use (CPython of 3.11 or newer, Linux and macOS), as the package index that pip uses tells them.
#   python3 pin.py faster-whisper==1.2.1 numpy==2.4.6 >speech.txt
import json, re, subprocess, sys, urllib.request


def index():
    r = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    if r.returncode == 0:
        return r.stdout.strip()
    from pip._internal.models.index import PyPI

    return PyPI.simple_url


def usable(name):
    python, abi, platform = name[: -len(".whl")].split("-")[-3:]
    if abi.endswith("t") or not re.search("any|manylinux.*(x86_64|aarch64)|macosx", platform):
        return False
    if "py3" in python.split("."):
        return True
    minor = re.match(r"cp3(\d+)$", python)
    return bool(minor) and (int(minor[1]) >= 11 or abi == "abi3")


def wheels(name, version):
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    page = urllib.request.Request(f"{index().rstrip('/')}/{name}/", headers=accept)
    with urllib.request.urlopen(page) as r:
        files = json.load(r)["files"]
    return [f for f in files if f["filename"].endswith(".whl") and f["filename"].split("-")[1] == version and usable(f["filename"])]


print("# Written by pin.py: do not edit.")
for requirement in sys.argv[1:]:
    name, version = requirement.split("==")
    found = wheels(name, version)
    if not found:
        sys.exit(f"no wheels of {requirement}")
    print(requirement + "".join(f" \\\n    --hash=sha256:{f['hashes']['sha256']}" for f in found))
