#!/bin/bash
# terminals.sh PROGRAM CONFIG DIRECTORY - what commands print on a terminal of 80 columns, with colours, as files for pictures.py.
set -euo pipefail
program=$1 config=$2 directory=$3
mkdir -p "$directory"
for command in status "alert list --all" "job history" "schedule" "backup list" "backup expire --dry-run" "config check"; do
    name=$(tr -s ' -' '-' <<<"$command")
    script -qec "stty cols 80 rows 50; '$program' --config '$config' --color always $command" /dev/null </dev/null >"$directory/$name.ansi" || :
done
