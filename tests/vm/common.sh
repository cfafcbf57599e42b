# Sourced by the scripts beside it.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
# Everything that the VM needs or leaves behind; `make clean` removes it.
VM=$ROOT/target/vm
BINARIES=${EXIT137_VM_BINARIES:-$ROOT/target/x86_64-unknown-linux-gnu/release}

die() {
  echo "tests/vm: $*" >&2
  exit 3
}

# Runs a command that wants a program of a Debian package; installs the package where it is missing.
need() {
  local program=$1 package=$2
  command -v "$program" >/dev/null && return
  [ "$(id -u)" = 0 ] || die "$program is missing; as root: apt-get install -y --no-install-recommends $package"
  echo "tests/vm: installing $package" >&2
  # Lists may be stale or absent on a fresh machine.
  { apt-get install -qq -y --no-install-recommends "$package" ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package"; }; } >&2 ||
    die "cannot install $package"
}
