#!/usr/bin/env bash
# Bring up a one-node SLURM on this machine, as root, to try profiles/slurm:
#
#   apt-get install slurm-wlm munge && bash tests/workflow/start_slurm.sh /tmp/slurm
#
# State, logs and slurm.conf lie in the directory given; /etc/slurm/slurm.conf links there, because jobs do not inherit
# SLURM_CONF. No accounting database, no cgroups: enough for a container.
set -euo pipefail
fail() { echo "start_slurm: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: start_slurm.sh DIRECTORY"
[ "$(id -u)" = 0 ] || fail "must run as root"
export PATH="$PATH:/usr/sbin:/sbin"
for tool in munged slurmctld slurmd sinfo; do
  command -v "$tool" >/dev/null || fail "$tool is missing (apt-get install slurm-wlm munge)"
done
mkdir -p "$1/state" "$1/spool" /etc/slurm /run/munge
directory=$(cd "$1" && pwd -P)
host=$(hostname -s)

if ! munge -n </dev/null 2>/dev/null | unmunge >/dev/null 2>&1; then
  [ -s /etc/munge/munge.key ] || (umask 077 && head -c 128 /dev/urandom >/etc/munge/munge.key)
  chown -R munge:munge /etc/munge /run/munge
  chmod 400 /etc/munge/munge.key
  runuser -u munge -- munged --force || fail "munged does not start"
fi

cat >"$directory/slurm.conf" <<END
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
EnforcePartLimits=ALL
ReturnToService=2
MinJobAge=3600
SlurmdParameters=config_overrides
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdLogFile=$directory/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.95)}' /proc/meminfo)
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
ln -sfn "$directory/slurm.conf" /etc/slurm/slurm.conf

for daemon in slurmctld slurmd; do
  pgrep -x "$daemon" >/dev/null || "$daemon" || fail "$daemon does not start; see $directory/$daemon.log"
done
for _ in $(seq 60); do
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then
    echo "start_slurm: node $host is idle"
    exit 0
  fi
  sleep 0.5
done
fail "the node is not idle after 30 s; see $directory/slurmctld.log and $directory/slurmd.log"
