# Many kills at once: causes.md 4.4 (rate limit, fragments).
make_cgroup storm
number=0
while [ $number -lt 40 ]; do
  number=$((number + 1))
  make_cgroup storm/$number memory.max=4M
done
let_summaries_through
mark_log
start_trace
number=0
while [ $number -lt 40 ]; do
  number=$((number + 1))
  run_in storm/$number exit137-workload hog --size 16Mi
done
wait_for '[ $(event storm oom_kill) = 40 ]'
seen "40 kills: $(lines 'oom-kill:constraint') summary lines, $(lines 'invoked oom-killer') headers, $(lines 'Killed process') 'Killed process', $(trace | grep -c mark_victim) mark_victim"
claim "'Killed process' is printed for each" "$(lines 'Killed process')" = 40
# It fires without a kill too, for a process that is exiting already (oom_kill.c, out_of_memory, oom_kill_process).
claim 'mark_victim fires for each, and can fire oftener' "$(trace | grep -c mark_victim)" -ge 40
claim 'the summary is printed for some only' "$(lines 'oom-kill:constraint')" -lt 40
remove_cgroup storm
