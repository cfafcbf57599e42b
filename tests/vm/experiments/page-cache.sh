# Page cache fills a cgroup and kills nobody: causes.md 9.9.
make_cgroup cache memory.max=64M
mark_log
run_in cache exit137-workload page-cache --path /disk --size 192Mi --passes 1
claim 'files of three times the limit are written and read' "$(wait_for 'grep -q pass /tmp/said' && echo yes)" = yes
claim 'nobody is killed' "$(event cache oom)$(event cache oom_kill)$(lines 'Killed process')" = 000
claim 'memory.peak stands at the limit' "$(read_number cache memory.peak)" -ge 66000000
claim '`max` in memory.events has risen' "$(event cache max)" -gt 0
seen "max rose by $(event cache max)"
remove_cgroup cache
