# Shows that the VM boots.
uname -r
cat /sys/fs/cgroup/cgroup.controllers /sys/devices/system/clocksource/clocksource0/current_clocksource
free -m
