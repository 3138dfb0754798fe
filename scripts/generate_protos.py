"""Compile the .proto files to the descriptors that the server loads; ``--check`` only compares them."""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

FOLDER = Path(__file__).parent.parent / "src" / "inferd" / "protocols" / "grpc"
TARGET = FOLDER / "schema.binpb"


def compile_protos() -> FileDescriptorSet:
    """The descriptors of every .proto file and of those of protobuf itself, each after what it imports."""
    root = FOLDER / "protos"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        folders = [f"-I{folder}" for folder in (root, files("grpc_tools") / "_proto")]
        if protoc.main(["protoc", *folders, "--include_imports", f"--descriptor_set_out={out}", *names]):
            raise SystemExit("protoc refused the .proto files")
        return FileDescriptorSet.FromString(out.read_bytes())


def main() -> int:
    """Write the descriptors, or tell whether they are up to date."""
    compiled = compile_protos()
    if "--check" in sys.argv[1:]:
        same = TARGET.is_file() and FileDescriptorSet.FromString(TARGET.read_bytes()) == compiled
        if not same:
            print(f"{TARGET.name} is not what the .proto files say; run python scripts/generate_protos.py")
        return not same
    TARGET.write_bytes(compiled.SerializeToString(deterministic=True))
    print(f"wrote {TARGET.name}: {', '.join(file.name for file in compiled.file)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
