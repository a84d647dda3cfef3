#!/usr/bin/env python3
"""rules.py [--check] - writes into docs/correctness.md where the code keeps each rule, and which tests show it; with --check it only
says what is not up to date. Code names a rule in a comment (`// C7`), a test in its name (`c7_…`)."""
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/correctness.md"

kept, tests = defaultdict(set), defaultdict(set)
for file in sorted([*ROOT.glob("crates/**/*.rs"), *ROOT.glob("tests/**/*.rs")]):
    name, text = file.relative_to(ROOT).as_posix(), file.read_text()
    if name.startswith("crates/") and file.name != "tests.rs":
        for line in text.splitlines():
            comment = line.partition("//")[2]
            for first, last in re.findall(r"\bC(\d{1,2})(?: to C(\d{1,2}))?\b", comment):
                # A range names the page, and not a rule.
                if not last:
                    kept[int(first)].add(name)
    for test in re.findall(r"fn ((?:c\d{1,2}_)+\w+)\(", text):
        for number in re.findall(r"c(\d{1,2})_", re.match(r"(?:c\d{1,2}_)+", test)[0]):
            tests[int(number)].add(f"{test} ({name})")

old = PAGE.read_text()
page, known = [], set()
for part in re.split(r"(?m)^(?=##)", old):
    part = re.sub(r"(?m)^- (Kept in|Tests): .*\n", "", part)
    if rule := re.match(r"### C(\d+) ", part):
        number = int(rule[1])
        known.add(number)
        lines = part.rstrip().splitlines()
        lines.append("- Kept in: " + (", ".join(f"`{place}`" for place in sorted(kept[number])) or "not yet."))
        lines.append("- Tests: " + (", ".join(f"`{test}`" for test in sorted(tests[number])) or "none by this name."))
        part = "\n".join(lines) + "\n\n"
    page.append(part)
new = "".join(page).rstrip() + "\n"

wrong = [f"C{number} is named in the code and not on the page" for number in sorted((set(kept) | set(tests)) - known)]
if "--check" in sys.argv[1:]:
    wrong += [] if new == old else ["docs/correctness.md is not up to date: make docs"]
elif not wrong:
    PAGE.write_text(new)
print(*wrong, sep="\n", end="\n" if wrong else "")
sys.exit(bool(wrong))
