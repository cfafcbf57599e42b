# memory.oom.group=1 on containers alone, as the kubelet sets it: causes.md C02, C10, section 3.
let_summaries_through
make_cgroup one memory.max=32M memory.oom.group=1
mark_log
run_in one exit137-workload hog --size 64Mi
claim_ends 'the only process of a group is killed' $! 137
claim '... but counted twice by oom_kill' "$(event one oom_kill)" = 2
claim '... and once by oom_group_kill' "$(event one oom_group_kill)" = 1
claim "... with two lines 'Killed process', the same PID in both" \
  "$(log | grep -o 'Killed process [0-9]*' | sort | uniq -c | sed 's/^ *\([0-9]*\).*/\1/')" = 2
remove_cgroup one

make_cgroup pod memory.max=64M
make_cgroup pod/victim memory.oom.group=1
make_cgroup pod/sibling memory.oom.group=1
ADJ=-997 run_in pod/victim sleep 1000
guaranteed=$!
ADJ=-1000 run_in pod/victim sleep 1000
untouchable=$!
run_in pod/sibling sleep 1000
sibling=$!
wait_for '[ $(wc -l <$V2/pod/victim/cgroup.procs) = 2 ]'
mark_log
run_in pod/victim exit137-workload hog --size 128Mi
claim_ends 'a pod-level OOM kills the hog' $! 137
claim_ends '... and the member of its container with oom_score_adj -997' $guaranteed 137
claim '... not the one with -1000' "$(cat $V2/pod/victim/cgroup.procs)" = $untouchable
claim '... nor a sibling container that has the flag too' "$(cat $V2/pod/sibling/cgroup.procs)" = $sibling
claim "oom_group_kill counts in the container, the group's" "$(event_local pod/victim oom_group_kill)" = 1
claim '... and not in the pod, the domain' "$(event_local pod oom_group_kill)" = 0
claim 'the first victim is counted and printed twice: 3 for 2 processes' \
  "$(event pod oom_kill) $(lines 'Killed process')" = '3 3'
claim "'Tasks in' names the container" "$(lines 'Tasks in /pod/victim are going to be killed due to memory.oom.group set')" = 1
claim "... and comes after the first 'Killed process'" \
  "$(log | grep -oE 'oom-kill:|Killed|Tasks in' | tr '\n' ' ')" = 'oom-kill: Killed Tasks in Killed Killed '
remove_cgroup pod

make_cgroup both memory.max=32M memory.oom.group=1
make_cgroup both/pause
make_cgroup both/container memory.oom.group=1
ADJ=-998 run_in both/pause sleep 1000
pause=$!
wait_for 'populated both/pause'
run_in both/container exit137-workload hog --size 64Mi
claim_ends 'with the flag on the pod too, the highest flag counts: pause dies' $pause 137
remove_cgroup both

# A process that came from outside, as kubectl exec and exec probes do.
make_cgroup probed memory.max=32M memory.oom.group=1
hold probed 8
main=$!
mark_log
run_in probed exit137-workload hog --size 64Mi
claim_ends "an exec'd process that is OOM-killed takes the container's main process with it" $main 137
remove_cgroup probed
