# The whole machine runs out of memory: causes.md C07.
make_cgroup node
make_cgroup node/pod
make_cgroup node/pod/container memory.oom.group=1
ADJ=-997 run_in node/pod/container sleep 1000
member=$!
wait_for 'populated node/pod/container'
before=$(sed -n 's/^oom_kill //p' /proc/vmstat)
let_summaries_through
mark_log
ADJ=1000 run_in node/pod/container exit137-workload hog --size 4Gi
claim_ends 'the task with oom_score_adj 1000 dies' $! 137
claim 'CONSTRAINT_NONE, global_oom, and no oom_memcg' \
  "$(lines 'oom-kill:constraint=CONSTRAINT_NONE.*,global_oom,task_memcg=/node/pod/container,')$(lines 'oom_memcg')" = 10
claim "the prefix is 'Out of memory:'" "$(lines '[]] Out of memory: Killed process')" -ge 1
claim_ends "the container's memory.oom.group counts here too: its other member dies" $member 137
claim "\`oom_kill\` counts in the victim's cgroup although no limit of any was met" "$(event_local node/pod/container oom_kill)" -ge 1
claim '... `oom` and `max` nowhere' "$(event node oom)$(event node max)" = 00
after=$(sed -n 's/^oom_kill //p' /proc/vmstat)
seen "oom_kill in the container: $(event_local node/pod/container oom_kill), in /proc/vmstat: +$((after - before))"
remove_cgroup node

# By hand (sysrq f), which section 11 had not run: only in a VM, for it is the whole machine's.
make_cgroup node
ADJ=1000 hold node 64
victim=$!
mark_log
echo f >/proc/sysrq-trigger
claim_ends 'sysrq f kills the task with oom_score_adj 1000' $victim 137
claim "... invoked by a kernel worker, with order=-1" "$(lines 'kworker.* invoked oom-killer: .*order=-1,')" = 1
claim '... as a global OOM' "$(lines 'oom-kill:constraint=CONSTRAINT_NONE.*,global_oom,task_memcg=/node,')" = 1
remove_cgroup node
