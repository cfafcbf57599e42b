# With swap the limit kills only once swap is used up as well: causes.md C24.
dd if=/dev/zero of=/disk/swap bs=1M count=128 2>/dev/null
mkswap /disk/swap >/dev/null && swapon /disk/swap
make_cgroup swapped memory.max=32M memory.swap.max=64M
hold_total=64
mark_log
run_in swapped exit137-workload hog --size ${hold_total}Mi
hog=$!
wait_for '[ $(($(read_number swapped memory.current) + $(read_number swapped memory.swap.current))) -ge 67108864 ]'
claim 'twice the limit fits, half of it in swap' "$(event swapped oom_kill)" = 0
claim '... without an `oom`' "$(event swapped oom)" = 0
kill $hog
wait_for '[ $(read_number swapped memory.current) -lt 8000000 ]'
run_in swapped exit137-workload hog --size 128Mi
claim_ends 'beyond limit and memory.swap.max it is killed' $! 137
claim "the log's block names swap, not memory+swap" "$(lines 'swap: usage [0-9]*kB, limit 65536kB') $(lines 'memory\+swap')" = '1 0'
remove_cgroup swapped
make_cgroup none memory.max=32M
run_in none exit137-workload hog --size 64Mi
claim_ends 'memory.swap.max=0 (NoSwap): killed at the limit although the host has swap' $! 137
remove_cgroup none
swapoff /disk/swap && rm /disk/swap
