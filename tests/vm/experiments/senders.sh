# Who signal_generate says sent a SIGKILL: causes.md sections 1.5 and 12.
# sent_to PID: who sent it a SIGKILL, comm-PID, and with which code.
sent_to() {
  trace | sed -n "s/^ *\(.*-[0-9]*\) .*signal_generate: sig=9 errno=0 code=\(-*[0-9]*\) .* pid=$1 .*/\1 \2/p"
}

make_cgroup pod memory.max=64M
make_cgroup pod/big
make_cgroup pod/small
hold pod/big 40
big=$!
start_trace
run_in pod/small exit137-workload hog --size 30Mi
small=$!
# A second victim may follow while the first one's memory is on its way back.
wait_for '[ $(event pod oom_kill) -ge 1 ]'
claim_ends "the victim is the larger process, not the one that allocates" $big 137
claim "the sender is the process that allocates, code 128: it need not be the victim" "$(sent_to $big)" = "exit137-hog-$small 128"
remove_cgroup pod

make_cgroup killed
start_trace
run_in killed sleep 1000
victim=$!
wait_for 'populated killed'
echo 1 >$V2/killed/cgroup.kill
wait $victim 2>/dev/null
claim 'cgroup.kill is sent by its writer and does not look like the kernel (code 0)' "$(sent_to $victim)" = "sh-$$ 0"
remove_cgroup killed

start_trace
sleep 1000 &
victim=$!
kill -9 $victim
wait $victim 2>/dev/null
claim 'kill -9 is sent by who calls it, code 0' "$(sent_to $victim)" = "sh-$$ 0"

start_trace
unshare -p -f sh -c 'sleep 1000 & usleep 200000; exit 0'
claim 'the end of a PID namespace kills what is left in it with code 128, and no mark_victim' \
  "$(trace | grep -c 'code=128 comm=sleep') $(trace | grep -c mark_victim)" = '1 0'
