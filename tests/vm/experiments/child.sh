# A child is killed below a parent that lives, group off: causes.md C02.
make_cgroup family memory.max=64M
mark_log
run_in family exit137-workload children --count 3 --size 128Mi
parent=$!
wait_for '[ $(event family oom_kill) = 3 ]'
claim 'three children die, one after the other' "$(lines 'Killed process')" = 3
claim '... oom_kill counts each once, oom_group_kill none' "$(event family oom_kill) $(event family oom_group_kill)" = '3 0'
claim 'the parent lives' "$(cat $V2/family/cgroup.procs)" = $parent
remove_cgroup family

make_cgroup namespaced memory.max=32M
mark_log
enter namespaced unshare -p -f -m exit137-workload hog --size 64Mi >/dev/null 2>&1 &
claim_ends "the memcg OOM killer kills the first process of a PID namespace" $! 137
claim '... and the log names its PID outside, not 1' "$(lines 'Killed process 1 ')$(lines 'Killed process')" = 01
remove_cgroup namespaced
