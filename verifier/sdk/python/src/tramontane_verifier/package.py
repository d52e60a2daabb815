"""A verifier as one file: a zip with its sources and a manifest, and the manifest beside it.

The zip holds no times and no order of its own: packing the same verifier gives the same bytes.
"""
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pack(files: dict[str, Path], entry: str, description: dict[str, Any], out: Path) -> Path:
    """Writes NAME-VERSION.zip and NAME-VERSION.json into `out`; returns the latter's path."""
    content = {name: path.read_bytes() for name, path in sorted(files.items())}
    manifest = {
        "format": FORMAT, **description, "entry": entry,
        "files": {name: _sha256(data) for name, data in content.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{description['name']}-{description['version']}"
    archive = out / f"{stem}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in [(MANIFEST, json.dumps(manifest, indent=1).encode()), *content.items()]:
            z.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    beside = {**manifest, "package": archive.name, "sha256": _sha256(archive.read_bytes())}
    target = out / f"{stem}.json"
    target.write_text(json.dumps(beside, indent=1) + "\n", encoding="utf-8")
    return target


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tramontane" / "verifiers"


def _read(archive: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as z:
            manifest = json.loads(z.read(MANIFEST))
            content = {name: z.read(name) for name in manifest["files"]}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as e:
        raise ValueError(f"{archive}: not a verifier package: {e}") from None
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{archive}: package format {manifest.get('format')}, this reads {FORMAT}")
    for name, sha in manifest["files"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{archive}: has a file outside of its folder: {name}")
        if _sha256(content[name]) != sha:
            raise ValueError(f"{archive}: {name} is damaged")
    return manifest, content


def unpack(archive: str) -> tuple[dict[str, Any], Path]:
    """Checks every file; returns the manifest and a folder with the files, kept for the next time."""
    manifest, content = _read(archive)
    folder = _cache() / _sha256(Path(archive).read_bytes())
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for name, data in content.items():
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(data)
            os.rename(work, folder)
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            if not folder.is_dir():  # somebody else was not faster: a real failure
                raise
    return manifest, folder
