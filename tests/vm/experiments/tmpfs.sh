# Memory in files of a tmpfs (an emptyDir with medium: Memory): causes.md C11, 9.12.
make_cgroup pod memory.max=96M
make_cgroup pod/first memory.max=64M
mkdir /tmp/volume && mount -t tmpfs -o size=128m volume /tmp/volume
let_summaries_through
mark_log
run_in pod/first exit137-workload tmpfs --path /tmp/volume --size 128Mi
claim_ends 'a process that writes to a tmpfs is killed at the limit' $! 137
claim "... at the container, where the limit was met" "$(lines 'oom_memcg=/pod/first,task_memcg=/pod/first,')" = 1
killed=$(log | grep 'Killed process')
seen "the victim's own memory: $(echo "$killed" | grep -oE 'anon-rss.*shmem-rss:[0-9]*kB')"
claim "... which is small: anon and shmem together below a tenth of the limit" \
  "$(echo "$killed" | sed 's/.*anon-rss:\([0-9]*\)kB.*shmem-rss:\([0-9]*\)kB.*/\1 \2/' | { read -r anon shmem; echo $((anon + shmem)); })" -lt 6553
left=$(read_number pod memory.current)
claim 'the files stay charged when the process is gone' "$left" -gt 62000000
rmdir $V2/pod/first
claim "... and when its cgroup is gone: then to the pod alone" "$(read_number pod memory.current)" -gt 62000000

make_cgroup pod/second memory.max=64M
mark_log
run_in pod/second exit137-workload hog --size 60Mi
claim_ends 'the next instance dies below its own limit' $! 137
claim '... of the pod' "$(lines 'oom_memcg=/pod,task_memcg=/pod/second,')" = 1
seen "the second instance's peak: $(read_number pod/second memory.peak) of 67108864"
umount /tmp/volume
wait_for '[ $(read_number pod memory.current) -lt 10000000 ]'
claim 'unmounting the tmpfs gives the memory back' "$(read_number pod memory.current)" -lt 10000000
remove_cgroup pod
rmdir /tmp/volume
