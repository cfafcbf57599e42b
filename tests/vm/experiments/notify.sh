# How soon a change of memory.events is told: causes.md 4.5 (10 ms), section 11 (latency).
make_cgroup pod
make_cgroup pod/container memory.max=16M
start_trace
for how in inotify poll; do
  watch-file $how $V2/pod/container/memory.events $TRACE/trace_marker &
  watchers="$watchers $!"
done
wait_for '[ $(trace | grep -c "says oom_kill=0") = 2 ]'
# Kills at intervals: each within 10 ms of the last notification may be told late, none may be lost.
kills=0
late=0
while [ $kills -lt 20 ]; do
  kills=$((kills + 1))
  run_in pod/container exit137-workload hog --size 32Mi
  wait $! 2>/dev/null
  [ "$(event pod/container oom_kill)" = $kills ] || late=$((late + 1))
  wait_for '[ $(trace | grep -c "says oom_kill='$kills'") -ge 2 ]'
done
claim 'who has reaped the victim finds it counted already, each time' $late = 0
# From the kernel's mark_victim to the first line of a watcher that knows of that kill, in microseconds. It can be less than
# 0: oom_kill is counted before mark_victim fires (__oom_kill_process).
latencies() {
  trace | awk -v how="$1" '
    { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9]+:$/) stamp = $i + 0 }
    /mark_victim/ { killed[++kills] = stamp }
    index($0, how " says oom_kill=") { split($0, part, "oom_kill="); k = part[2] + 0; if (!(k in told)) told[k] = stamp }
    END { for (k = 1; k <= kills; k++) if (k in told) printf "%d\n", (told[k] - killed[k]) * 1000000 }
  ' | sort -n
}
for how in poll inotify; do
  latencies $how >/tmp/latencies
  seen "$how: $(wc -l </tmp/latencies) kills told, median $(sed -n 10p /tmp/latencies) us, most $(tail -1 /tmp/latencies) us after mark_victim"
  claim "$how: every kill is told" "$(wc -l </tmp/latencies)" = 20
  # `max` and `oom` rise just before the kill and use up the one notification per 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV).
  claim "$how: as a rule one throttle interval late, not at once" "$(sed -n 10p /tmp/latencies)" -gt 1000
done
kill $watchers
remove_cgroup pod
