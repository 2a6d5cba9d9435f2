"""Check that `datasets/manifest.json` lists every data file, with the right digest, size and rows.

    python3 datasets/scripts/check_manifest.py            ends with 1 if anything is amiss
    python3 datasets/scripts/check_manifest.py --update   writes the digests of the files it lists

Only the standard library. README.md, manifest.json and scripts/ are not data and are not listed, nor are integer models (*.xq1), which
tests leave beside the checkpoints that they convert.
An update never lists a file by itself: where it came from and its licence are for a person to write.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

DATASETS = Path(__file__).resolve().parent.parent
NOT_DATA = {"README.md", "manifest.json", ".gitattributes"}
REQUIRED = ["path", "origin", "licence", "made_by", "sha256", "bytes", "rows"]


def data_files():
    """Every file under datasets/ that has to be listed, as a path with forward slashes."""
    paths = (path.relative_to(DATASETS) for path in DATASETS.rglob("*") if path.is_file())
    data = (path for path in paths if path.parts[0] != "scripts" and path.suffix != ".xq1")
    return {path.as_posix() for path in data if path.as_posix() not in NOT_DATA}


def facts(path):
    """What can be told from the file alone; rows are the lines of a JSONL or the rows of a golden."""
    content = (DATASETS / path).read_bytes()
    rows = None
    if path.endswith(".jsonl"):
        rows = len(content.splitlines())
    elif path.endswith("golden.json"):
        rows = len(json.loads(content)["rows"])
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": rows}


def problems(manifest):
    """Everything that is amiss, one sentence each."""
    entries = manifest["files"]
    listed = [entry.get("path") for entry in entries]
    on_disk = data_files()
    found = [f"{path}: listed twice" for path in sorted(set(listed)) if listed.count(path) > 1]
    found += [f"{path}: not listed in manifest.json" for path in sorted(on_disk - set(listed))]
    for entry in entries:
        path = entry["path"]
        if missing := [key for key in REQUIRED if key not in entry]:
            found.append(f"{path}: no {', '.join(missing)}")
        if entry.get("origin") not in manifest["origins"]:
            found.append(f"{path}: origin {entry.get('origin')!r} is not described under origins")
        if path not in on_disk:
            found.append(f"{path}: listed, but there is no such file")
            continue
        for key, value in facts(path).items():
            if key in entry and entry[key] != value:
                found.append(f"{path}: {key} is {value}, the manifest says {entry[key]}")
    return found


def main():
    """Check, or update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write digests, sizes and rows of the listed files")
    args = parser.parse_args()

    path = DATASETS / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if args.update:
        for entry in manifest["files"]:
            entry.update(facts(entry["path"]))
        path.write_bytes((json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))

    found = problems(manifest)
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(manifest['files'])} files listed, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
