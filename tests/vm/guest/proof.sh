# Shows, with busybox alone, that the kernel kills in a cgroup v2: a hog under memory.max.
cgroup=/sys/fs/cgroup/proof
mkdir $cgroup
echo 16M >$cgroup/memory.max
echo 0 >$cgroup/memory.swap.max 2>/dev/null
# tail keeps its whole input while it waits for the end of a line that never comes.
sh -c "echo \$\$ >$cgroup/cgroup.procs; exec tail -n 1 /dev/zero"
echo "wait status of the hog, as a shell says it: $?"
cat $cgroup/memory.events
dmesg | grep -E 'oom-kill:|Killed process'
[ "$(sed -n 's/^oom_kill //p' $cgroup/memory.events)" = 1 ]
