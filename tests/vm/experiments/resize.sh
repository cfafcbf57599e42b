# memory.max lowered below use: causes.md C08, R4.2.
let_summaries_through
make_cgroup container memory.max=128M
hold container 96
victim=$!
start_trace
mark_log
sh -c 'echo 32M >/sys/fs/cgroup/container/memory.max' && wrote=yes
claim 'the write succeeds' "$wrote" = yes
claim_ends '... and kills' $victim 137
claim "'invoked oom-killer' names the writer" "$(log | sed -n 's/.* \(.*\) invoked oom-killer.*/\1/p' | sort -u)" = sh
claim 'the sender of the SIGKILL is the writer too, with code=128 (kernel)' \
  "$(trace | grep -c "sh-[0-9]* .*signal_generate: sig=9 errno=0 code=128 comm=exit137-hog pid=$victim ")" = 1
claim 'oom_kill rises by one' "$(event container oom_kill)" = 1
seen "\`oom\` rose by $(event container oom), \`max\` by $(event container max)"
claim 'the limit is what was written' "$(read_number container memory.max)" = 33554432
remove_cgroup container

make_cgroup cached memory.max=128M
dd if=/dev/zero of=/disk/cached bs=1M count=96 2>/dev/null && sync
echo 3 >/proc/sys/vm/drop_caches
run_in cached sh -c 'cat /disk/cached /disk/cached >/dev/null; exec sleep 1000'
reader=$!
wait_for '[ "$(cat /proc/$reader/comm)" = sleep ]'
claim 'page cache fills the cgroup' "$(read_number cached memory.current)" -ge 94371840
mark_log
echo 32M >$V2/cached/memory.max
claim 'page cache is reclaimed instead: nobody dies' "$(event cached oom_kill)$(lines 'Killed process')" = 00
claim '... and the use is below the new limit at once' "$(read_number cached memory.current)" -le 33554432
claim '... without a single `oom`' "$(event cached oom)" = 0
kill $reader
remove_cgroup cached

make_cgroup stubborn memory.max=128M
ADJ=-1000 hold stubborn 64
mark_log
timeout 20 sh -c 'echo 32M >/sys/fs/cgroup/stubborn/memory.max'
claim 'below the use of a process with oom_score_adj -1000 the write succeeds all the same' $? = 0
claim '... and the use stays above the limit' "$(read_number stubborn memory.current)" -gt "$(read_number stubborn memory.max)"
claim '... `oom` counts it, `oom_kill` does not' "$(event stubborn oom) $(event stubborn oom_kill)" = '1 0'
claim "... and the log says 'Out of memory and no killable processes'" \
  "$(lines 'Out of memory and no killable processes')" = 1
claim 'the process with -1000 lives' "$(wc -l <$V2/stubborn/cgroup.procs)" = 1
remove_cgroup stubborn
