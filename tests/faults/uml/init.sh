#!/bin/sh
# The first process of a User Mode Linux on the host's own files: makes netem available, then runs inside.py.
# From the kernel's command line: LAB_PYTHON, LAB_REPOSITORY, LAB_RESULTS (a file).
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc # first of all: /proc is the host's until then
mount -t sysfs sys /sys
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
export TMPDIR=/dev/shm CHAOSLAB_STATE_DIR=/dev/shm/state
for module in lib/crc-ccitt net/ipv6/ipv6 net/packet/af_packet drivers/net/veth drivers/net/ifb \
  net/sched/sch_netem net/sched/sch_prio net/sched/sch_ingress net/sched/cls_u32 net/sched/act_mirred \
  net/sched/cls_matchall net/sched/act_gact; do
  file="/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko"
  [ ! -e "$file" ] || busybox insmod "$file" # what has no file is built in
done
ip link set lo up
cd "$LAB_REPOSITORY" && "$LAB_PYTHON" -m tests.faults.uml.inside "$LAB_RESULTS"
busybox halt -f
