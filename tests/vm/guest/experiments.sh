# Runs the experiments (all, or those named) and says which claims of docs/cgroup-v2.md hold on this kernel.
[ $# -gt 0 ] || set -- $(ls /vm/experiments | sed 's/\.sh$//')
failed=0
for experiment; do
  echo "$experiment: $(sed -n '1s/^# //p' "/vm/experiments/$experiment.sh")"
  timeout 120 sh -c '. /vm/lib.sh; . /vm/experiments/$1.sh; [ $failures = 0 ]' sh "$experiment" || failed=$((failed + 1))
done
echo "$# experiments, $failed with claims that differ; kernel $(uname -r), cgroup v2"
[ $failed = 0 ]
