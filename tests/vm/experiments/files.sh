# Which files and keys this kernel has: causes.md 4.5.
make_cgroup files memory.max=64M
seen "kernel $(uname -r); memory.events: $(sed 's/ .*//' $V2/files/memory.events | tr '\n' ' ')"
claim 'memory.events knows oom_group_kill' "$(event files oom_group_kill)" = 0
claim 'memory.peak exists' -e $V2/files/memory.peak
seen "memory.peak has mode $(stat -c %a $V2/files/memory.peak) (644: it can be reset, for the file descriptor that did so)"
claim 'memory.pressure exists' -e $V2/files/memory.pressure
claim 'memory.reclaim exists' -e $V2/files/memory.reclaim
seen "mark_victim's fields: $(sed -n 's/.*field:\([^;]*\);.*/\1/p' $V2/../../kernel/tracing/events/oom/mark_victim/format | grep -v common_ | tr '\n' ',')"
remove_cgroup files
