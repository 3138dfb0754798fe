"""Fetch the vendored files of `/docs` and `/redoc` from npm, check them, and copy them beside the server."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "src" / "inferd" / "server" / "assets"

PACKAGES = {
    "swagger-ui-dist@5.35.0": (
        "U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        {
            "swagger-ui-bundle.js": "swagger-ui-bundle.js",
            "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
            "swagger-ui.css": "swagger-ui.css",
            "favicon-32x32.png": "favicon-32x32.png",
            "LICENSE": "swagger-ui.LICENSE",
            "NOTICE": "swagger-ui.NOTICE",
        },
    ),
    "redoc@3.0.1": (
        "KDfoKaYW19LCl4YStgBnwlaNjYEFfs5zCNt1s1WZ2YM5u8d26Yuzd2l43fZO851ZsgIMe/D640fDJkD8eaRQKQ==",
        {"bundles/redoc.standalone.js": "redoc.standalone.js", "LICENSE": "redoc.LICENSE"},
    ),
}
"""Package and version: its SHA-512 as npm publishes it, and the files taken, unmodified, with their names here."""


def fetch(package: str, sha512: str, files: dict[str, str]) -> None:
    """Copy ``files`` out of ``package``; exits with a sentence when its digest is another."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(folder).glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != sha512:
            sys.exit(f"{package} has SHA-512 {digest}, expected {sha512}")
        with tarfile.open(archive) as tar:
            for name, target in files.items():
                member = tar.extractfile(f"package/{name}")
                if member is None:
                    sys.exit(f"{package} holds no file {name}")
                (ASSETS / target).write_bytes(member.read())


if __name__ == "__main__":
    for name, (expected, wanted) in PACKAGES.items():
        fetch(name, expected, wanted)
        print(f"copied {len(wanted)} files of {name}")
