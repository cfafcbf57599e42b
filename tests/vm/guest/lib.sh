# Sourced by the experiments: cgroups, the kernel log, the trace, and claims.

V2=/sys/fs/cgroup
TRACE=/sys/kernel/tracing/instances/experiments
failures=0
mark=0

# make_cgroup PATH [FILE=VALUE]...: below the root of cgroup v2; swap is off unless said otherwise.
make_cgroup() {
  cgroup=$V2/$1
  shift
  echo '+memory +pids' >"$(dirname "$cgroup")/cgroup.subtree_control"
  mkdir "$cgroup"
  echo 0 >"$cgroup/memory.swap.max"
  for setting; do
    echo "${setting#*=}" >"$cgroup/${setting%%=*}"
  done
}

# Empties a cgroup and removes it with everything below it.
remove_cgroup() {
  echo 1 >"$V2/$1/cgroup.kill"
  wait_for "! populated $1"
  find "$V2/$1" -depth -type d -exec rmdir {} \;
}

# enter PATH COMMAND...: becomes the command, in that cgroup, with oom_score_adj $ADJ.
enter() {
  into=$V2/$1
  shift
  ADJ=${ADJ:-0} INTO=$into exec sh -c 'echo $ADJ >/proc/self/oom_score_adj; echo 0 >$INTO/cgroup.procs; exec "$@"' sh "$@"
}

# run_in PATH COMMAND...: the same as a child, in the background; its PID is $!, what it says is in /tmp/said.
run_in() {
  enter "$@" >/tmp/said 2>&1 &
}

# Holds so much memory, once it has it: hold PATH SIZE
hold() {
  before=$(read_number "$1" memory.current)
  run_in "$1" exit137-workload hog --size "$2"Mi
  wait_for '[ $(read_number '"$1"' memory.current) -ge $(('"$before + $2"' * 1048576)) ]'
}

read_number() { cat "$V2/$1/$2"; }

# event PATH KEY: of memory.events; event_local: of memory.events.local.
event() { sed -n "s/^$2 //p" "$V2/$1/memory.events"; }
event_local() { sed -n "s/^$2 //p" "$V2/$1/memory.events.local"; }

# populated PATH: whether there is a process in it.
populated() { grep -q 'populated 1' "$V2/$1/cgroup.events"; }

# Waits, 10 s at most, until a condition holds.
wait_for() {
  tries=0
  until eval "$1"; do
    tries=$((tries + 1))
    if [ $tries -gt 1000 ]; then
      echo "  waited in vain for: $1"
      failures=$((failures + 1))
      return 1
    fi
    usleep 10000
  done
}

# The kernel log since the last mark_log.
mark_log() {
  mark=$((mark + 1))
  echo "experiment $$ mark $mark." >/dev/kmsg
}
log() { dmesg | sed "1,/experiment $$ mark $mark\\./d"; }
# How many of its lines match: lines PATTERN
lines() { log | grep -cE "$1"; }

# The kernel prints the summary of an OOM at most ten times in 5 s (oom_kill_process): lets those 5 s pass.
let_summaries_through() { usleep 5200000; }

# The trace of SIGKILLs and OOM victims since the last start_trace, in an instance of its own.
start_trace() {
  mkdir -p $TRACE
  echo >$TRACE/trace
  echo 'sig==9' >$TRACE/events/signal/signal_generate/filter
  echo 1 >$TRACE/events/signal/signal_generate/enable
  echo 1 >$TRACE/events/oom/mark_victim/enable
}
trace() { grep -v '^#' $TRACE/trace; }

# claim TEXT CONDITION...: CONDITION as for test(1).
claim() {
  text=$1
  shift
  if [ "$@" ]; then
    echo "  holds   $text"
  else
    echo "  DIFFERS $text (seen: $*)"
    failures=$((failures + 1))
  fi
}

# claim_ends TEXT PID STATUS: waits for a child; its status is as a shell says it (128 + signal).
claim_ends() {
  wait "$2" 2>/dev/null
  claim "$1" $? = "$3"
}

# What was seen, where there is nothing to hold it against.
seen() { echo "  seen    $*"; }
