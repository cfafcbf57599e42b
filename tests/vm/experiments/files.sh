# Which files and keys this kernel has: causes.md 4.5.
make_cgroup files memory.max=64M
seen "kernel $(uname -r); memory.events: $(sed 's/ .*//' $V2/files/memory.events | tr '\n' ' ')"
claim 'memory.events knows oom_group_kill' "$(event files oom_group_kill)" = 0
claim 'memory.peak exists' -e $V2/files/memory.peak
hold files 32
kill $!
wait_for '[ $(read_number files memory.current) -lt 16777216 ]'
(echo 0 >$V2/files/memory.peak) 2>/dev/null
seen "memory.peak after writing to it: $(read_number files memory.peak) (32 MiB were held, $(read_number files memory.current) are)"
claim 'memory.pressure exists' -e $V2/files/memory.pressure
claim 'memory.reclaim exists' -e $V2/files/memory.reclaim
seen "mark_victim's fields: $(sed -n 's/.*field:\([^;]*\);.*/\1/p' $V2/../../kernel/tracing/events/oom/mark_victim/format | grep -v common_ | tr '\n' ',')"
remove_cgroup files
