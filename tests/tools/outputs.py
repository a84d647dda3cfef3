#!/usr/bin/python3
"""outputs.py [--whole] SCHEMA DIRECTORY - checks what commands printed with --json, as tests kept it in DIRECTORY, by SCHEMA
(docs/json.schema.json); with --whole also that every command of the schema was tried."""

import json
import pathlib
import sys

import jsonschema

# Answers of a wholly successful run of these need what no test of all commands has: keys, and other roles.
ELSEWHERE = {"backup sign", "restore schema", "restore database"}


def main():
    arguments = sys.argv[1:]
    is_whole = "--whole" in arguments
    schema_path, directory = [argument for argument in arguments if argument != "--whole"]
    schema = json.loads(pathlib.Path(schema_path).read_text())
    commands, tried, problems = schema["properties"], set(), []

    def check(name, rule, text, words):
        try:
            value = json.loads(text)
        except ValueError as error:
            problems.append(f"{words}: no JSON: {error}: {text[:200]}")
            return
        resolver = jsonschema.RefResolver.from_schema(schema)
        checker = jsonschema.Draft202012Validator(rule, resolver=resolver, format_checker=jsonschema.FormatChecker())
        for error in checker.iter_errors(value):
            best = jsonschema.exceptions.best_match([error])
            problems.append(f"{words}: {name}: {best.json_path}: {best.message[:300]}")

    paths = sorted(pathlib.Path(directory).glob("*.json"))
    if not paths:
        sys.exit(f"{directory}: nothing was kept to be checked")
    for path in paths:
        kept = json.loads(path.read_text())
        words = " ".join(word for word in kept["arguments"] if word != "--json")
        plain = [word for word in words.split() if not word.startswith("-")]
        names = [" ".join(plain[:length]) for length in (3, 2, 1)]
        name = next((name for name in names if name in commands), None)
        if kept["stdout"].strip() and name:
            tried.add(name)
            check(name, commands[name], kept["stdout"], words)
        elif kept["stdout"].strip():
            problems.append(f"{words}: the schema has no such command")
        elif kept["code"] != 0:
            check("error", {"$ref": "#/$defs/error"}, kept["stderr"].strip().splitlines()[-1], words)
        elif name:
            problems.append(f"{words}: printed nothing")
    if is_whole:
        problems += [f"{name}: not tried" for name in sorted(set(commands) - tried - ELSEWHERE)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(tried)} commands print what the schema says")


main()
