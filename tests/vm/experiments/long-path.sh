# A summary line that is too long comes in fragments: causes.md 4.4.
name=$(printf '%0200d' 0)
make_cgroup $name
make_cgroup $name/$name
make_cgroup $name/$name/$name memory.max=8M
let_summaries_through
mark_log
run_in $name/$name/$name exit137-workload hog --size 16Mi
claim_ends 'a hog three levels of 200 letters deep is killed' $! 137
# As /dev/kmsg gives them: priority,sequence,time,flag;text
timeout 2 cat /dev/kmsg | sed -n "/experiment $$ mark $mark\\./,\$p" >/tmp/records
claim 'the summary ends early' "$(grep -c 'oom-kill:.*pid=' /tmp/records)" = 0
claim '... and goes on in a record of level 4 with the flag c' "$(grep -cE '^4,[0-9]+,[0-9]+,c;.*pid=[0-9]+,uid=0$' /tmp/records)" = 1
seen "its first record has $(grep 'oom-kill:' /tmp/records | head -1 | sed 's/^[^;]*;//' | wc -c) bytes of text"
remove_cgroup $name
