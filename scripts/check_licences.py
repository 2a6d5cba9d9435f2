"""Check that every crate in Cargo.lock may be used under a licence that `deny.toml` allows.

    python3 scripts/check_licences.py    ends with 1 if one may not, or if an allowed licence is met nowhere

Only the standard library of Python 3.11. `cargo deny check licenses` does the same and reads the licence texts too.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def allowed_by(expression, allow, met):
    """Whether an SPDX expression can be satisfied from `allow`; the licences that did it are added to `met`.

    Grammar: `or = and {(OR | /) and}`, `and = one {AND one}`, `one = ( or ) | NAME [WITH NAME]`.
    """
    words = re.findall(r"[()/]|[^\s()/]+", expression)

    def one():
        word = words.pop(0)
        if word == "(":
            inside = alternatives()
            words.pop(0)
            return inside
        if words[:1] == ["WITH"]:
            words.pop(0)
            word += " WITH " + words.pop(0)
        if word in allow:
            met.add(word)
        return word in allow

    def both():
        good = one()
        while words[:1] == ["AND"]:
            words.pop(0)
            good = one() and good
        return good

    def alternatives():
        good = both()
        while words[:1] in (["OR"], ["/"]):
            words.pop(0)
            good = both() or good
        return good

    return alternatives()


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    allow = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["licenses"]["allow"]
    met = set()
    found = [
        f"{package['name']} {package['version']}: {package['license'] or 'no licence'} is not allowed in deny.toml"
        for package in metadata["packages"]
        if not package["license"] or not allowed_by(package["license"], allow, met)
    ]
    found += [f"deny.toml: {licence} is allowed and met nowhere" for licence in allow if licence not in met]
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"licences: {len(metadata['packages'])} crates, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
