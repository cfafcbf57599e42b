# memory.high throttles and kills nobody: causes.md C25.
make_cgroup slow memory.max=128M memory.high=32M
mark_log
run_in slow exit137-workload hog --size 40Mi --rate 64Mi/s
hog=$!
wait_for '[ $(event slow high) -gt 100 ]'
claim 'beyond memory.high `high` rises' "$(event slow high)" -gt 100
claim '... and nobody is killed' "$(event slow oom_kill)$(event slow max)$(lines 'Killed process')" = 000
sleep 2
claim '... and it is held back: after 2 s more it has not got its 40 MiB' "$(read_number slow memory.current)" -lt 41943040
seen "pressure: $(head -1 $V2/slow/memory.pressure)"
kill -9 $hog
remove_cgroup slow
