#!/usr/bin/env bash
# The command of the older script suite, for those who have it in their fingers or their pipelines: it calls `chaoslab ci`.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: ./run_chaos_tests.sh [--target URL] [--intensity smoke|standard|stress] [--dry-run] [-- OPTION...]

  --target URL        the service; $TARGET_URL, else http://localhost:$CHAOS_TARGET_PORT, else port 8080
  --intensity LEVEL   smoke (the default), standard or stress: the suites smoke_test, standard_test, stress_test
  --dry-run           print the exact commands, and change nothing
  -- OPTION...        further options of `chaoslab ci`, such as --start, --baseline, --environment, --fail-on-violation

Exit codes are those of `chaoslab`: 0 well, 1 violated, 2 bad usage, 3 inconclusive, 4 not delivered, 5 aborted, 6 not reverted.
TEXT
}

refuse() {
  printf 'run_chaos_tests.sh: %s\n' "$1" >&2
  exit 2
}

value_of() { # OPTION and what follows it
  [ "$#" -ge 2 ] && [ -n "$2" ] || refuse "$1 takes a value"
  printf '%s' "$2"
}

target=${TARGET_URL:-}
intensity=smoke
options=()
while [ "$#" -gt 0 ]; do
  case $1 in
    --target | --intensity)
      value=$(value_of "$@")
      if [ "$1" = --target ]; then target=$value; else intensity=$value; fi
      shift 2
      ;;
    --target=* | --intensity=*)
      option=${1%%=*} value=${1#*=}
      shift
      set -- "$option" "$value" "$@"
      ;;
    --dry-run)
      options+=(--dry-run)
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    --)
      shift
      options+=("$@")
      break
      ;;
    *) refuse "$1 is not accepted; accepted: --target URL, --intensity smoke|standard|stress, --dry-run, -- OPTION..." ;;
  esac
done

case $intensity in
  smoke | standard | stress) ;;
  *) refuse "--intensity is $intensity; accepted: smoke, standard, stress" ;;
esac
if [ -z "$target" ]; then
  port=${CHAOS_TARGET_PORT:-8080}
  case $port in
    '' | *[!0-9]*) refuse "CHAOS_TARGET_PORT is $port; accepted: a port number" ;;
  esac
  target=http://localhost:$port
fi

# The target may hold a password, and a list of processes shows every argument.
export CHAOSLAB_TARGET=$target

here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$here/.venv/bin/chaoslab" ]; then
  chaoslab=("$here/.venv/bin/chaoslab")
elif command -v chaoslab >/dev/null; then
  chaoslab=(chaoslab)
else
  refuse "chaoslab is not installed; pip install . does that, or make demo"
fi
exec "${chaoslab[@]}" ci --suite "${intensity}_test" ${options[@]+"${options[@]}"}
