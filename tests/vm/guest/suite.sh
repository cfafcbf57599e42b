# Runs exit137's scenarios in the VM: suite.sh [PART]... (default: all parts, in this order).

# Two scenarios at a time (--jobs 2): processors are emulated and few, and scenarios state times.
KEEP=/disk/keep
failed=0

# expect_status WANTED COMMAND...: the command's exit status must be the wanted one. Its report comes after its progress.
expect_status() {
  wanted=$1
  shift
  timeout -k 10 600 "$@" >/tmp/report
  got=$?
  cat /tmp/report
  if [ $got != "$wanted" ]; then
    echo "FAILED: exit status $got instead of $wanted"
    failed=1
    # Told again at the very end, which is what a cut log still has.
    sed -n '/^\(failed\|inconclusive\|error\) /,/^\(passed\|skipped\) \|^$/p' /tmp/report >>/tmp/failures
  fi
}

# A handful, by the names of their files: runs what part says with these.
paths() {
  for name; do
    echo "/scenarios/$name.yaml"
  done
}

# skips_are [-v] PATTERN: what the report skips are the lines of tests/skips/v2 that match (or do not). There is no runtime
# of any stack here (tests/skips/check).
skips_are() {
  sed -n 's/^skipped  *\([^ ]*\)  */\1: /p' /tmp/report | grep -v '^stack-[^:]*: needs the program ' >/tmp/skipped
  if ! grep "$@" /vm/skips/v2 | diff -u - /tmp/skipped; then
    echo "FAILED: the skips are not those of tests/skips/v2"
    failed=1
  fi
}

as_root() {
  # shellcheck disable=SC2046
  expect_status 0 exit137 run --jobs 2 --out $KEEP/as_root $(ls /scenarios/*.yaml | grep -v /traffic-)
  skips_are -v '^traffic-'
}

# Rates and latencies of emulated processors: one scenario at a time.
traffic() {
  expect_status 0 exit137 run --jobs 1 --out $KEEP/traffic /scenarios/traffic-*.yaml
  skips_are '^traffic-'
}

# The knee beside the cliff: a limit that is survived by reading the same files back and waiting for that is named as such.
knee() {
  expect_status 0 exit137 size /vm/scenarios/knee.yaml --set pods.web.containers.app.resources.limits.memory \
    --from 8Mi --to 104Mi --step 8Mi --repeat 1 --out $KEEP/knee
  for said in 'thrashing: it survives by reclaim: .*pages back' 'memory pressure (full)' 'the cliff is at [0-9]*Mi, the knee beside it'; do
    grep -q "$said" /tmp/report || { echo "FAILED: nothing says $said"; failed=1; }
  done
}

# The wall clock is set an hour on and two back while traffic is sent and a container dies: nothing hangs, nothing is lost.
clock_steps() {
  (sleep 4 && date -s "@$(($(date +%s) + 3600))" && sleep 3 && date -s "@$(($(date +%s) - 7200))") >/dev/null &
  expect_status 0 exit137 run --jobs 1 --out $KEEP/clock_steps /scenarios/traffic-leak.yaml
  wait
  grep -q ' 0 of 450 dropped' /tmp/report || { echo "FAILED: iterations were dropped, or lost"; failed=1; }
}

# As a user with a delegated cgroup has it (systemd-run --user --scope -p Delegate=yes), the harness within. There is neither
# kernel log (Debian sets kernel.dmesg_restrict) nor tracefs: memory.events and wait status alone must give `high`.
as_a_user() {
  delegated=/sys/fs/cgroup/delegated
  mkdir $delegated $KEEP/as_a_user
  chown 1000 $delegated $delegated/cgroup.procs $delegated/cgroup.threads $delegated/cgroup.subtree_control \
    $KEEP/as_a_user
  if su -s /bin/sh user -c 'dd if=/dev/kmsg count=0 2>/dev/null || ls /sys/kernel/tracing/events 2>/dev/null'; then
    echo "FAILED: the user can read the kernel log or the trace, so this part would prove nothing"
    failed=1
  fi
  # shellcheck disable=SC2046 # a path each
  as_user='echo 0 >/sys/fs/cgroup/delegated/cgroup.procs && exec su -s /bin/sh user -c "$*"'
  # shellcheck disable=SC2046
  expect_status 0 sh -c "$as_user" sh exit137 run --jobs 2 --out $KEEP/as_a_user/run \
    $(paths limit-fast limit-leak limit-headroom pod-limit child-hidden exit-137)
  # Counters say that several processes died in a group kill, not which was chosen: inconclusive is the honest answer.
  expect_status 5 sh -c "$as_user" sh exit137 run --out $KEEP/as_a_user/group /scenarios/group-kill.yaml
}

node_wide() {
  expect_status 0 env EXIT137_DISPOSABLE_HOST=1 EXIT137_RESERVE=0 exit137 run --jobs 2 --no-skips --out $KEEP/node_wide \
    /scenarios/node-wide.yaml
}

# A scenario that expects what does not happen: shows that this suite can go red.
wrong_on_purpose() {
  expect_status 1 exit137 run --jobs 2 --out $KEEP/wrong_on_purpose /vm/scenarios/wrong-on-purpose.yaml
}

# The kernel log gone, root otherwise (as_a_user has neither it nor tracefs). Last, because nothing brings it back.
without_kmsg() {
  rm /dev/kmsg
  # shellcheck disable=SC2046
  expect_status 0 exit137 run --jobs 2 --out $KEEP/without_kmsg \
    $(paths limit-fast limit-leak pod-limit child-hidden group-kill exit-137)
}

mkdir -p $KEEP
[ $# -gt 0 ] || set -- as_root traffic knee clock_steps as_a_user node_wide wrong_on_purpose without_kmsg
for part; do
  echo "== $part"
  $part
done
left=$(find /sys/fs/cgroup -type d -name 'exit137-*')
[ ! -f /tmp/failures ] || { echo "== what failed"; cat /tmp/failures; }
[ -z "$left" ] || { echo "FAILED: left behind: $left"; failed=1; }
[ $failed = 0 ]
