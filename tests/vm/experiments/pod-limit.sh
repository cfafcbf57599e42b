# Pod limit = container limit, and a pause process beside the container: causes.md R4.4, C01, 4.5.
make_cgroup pod memory.max=64M
make_cgroup pod/pause
make_cgroup pod/container memory.max=64M
run_in pod/pause sleep 1000
let_summaries_through
mark_log
run_in pod/container exit137-workload hog --size 256Mi
victim=$!
claim_ends 'the hog is killed' $victim 137
claim 'oom_memcg is the pod, task_memcg the container' \
  "$(lines 'oom_memcg=/pod,task_memcg=/pod/container,')" = 1
claim "\`oom\` counts in the pod's memory.events.local" "$(event_local pod oom)" -ge 1
claim '... and not in the container' "$(event_local pod/container oom)$(event pod/container oom)" = 00
claim "\`oom_kill\` counts in the container's memory.events.local" "$(event_local pod/container oom_kill)" = 1
claim '... and not in the pod' "$(event_local pod oom_kill)" = 0
claim "... but in the pod's hierarchical memory.events" "$(event pod oom_kill)" = 1
claim 'the root has no memory.events' ! -e $V2/memory.events

# What outlives the container.
exec 9<$V2/pod/container/memory.events
rmdir $V2/pod/container
claim 'an open memory.events of a removed cgroup answers ENODEV' "$(cat <&9 2>&1)" = 'cat: read error: No such device'
exec 9<&-
claim "the pod's memory.events keeps the removed container's oom_kill" "$(event pod oom_kill)" = 1
remove_cgroup pod
