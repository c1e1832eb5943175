"""Real schedulers on one machine: Slurm and Grid Engine from Debian's packages, each in namespaces of its own.

Nothing of them is visible from outside, and nothing is left behind: when process 1 of a namespace ends, the kernel ends
all others in it. This needs root, and the packages that `make schedulers` installs.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest
from login import wait_for

HERE = Path(__file__).parent
HOST = "tsubame"

_PID_1 = """
set -e
hostname "$1"; ip link set lo up
ip addr add 127.0.1.1/8 dev lo  # with 127.0.0.1 alone getaddrinfo finds no address family, and Slurm no host
mount --bind "$2/hosts" /etc/hosts
for bind in "${@:3}"; do mkdir -p "${bind#*:}"; mount --bind "${bind%%:*}" "${bind#*:}"; done
touch "$2/ready"
trap "exit 0" TERM INT
while :; do sleep 3600 & wait $! || true; done  # reaps orphans
"""


class Namespace:
    """A separate machine with respect to host name, network and processes."""

    needs: tuple[str, ...] = ()  # programs

    def __init__(self, state: Path):
        self.state = state
        self._pid: int | None = None

    @classmethod
    def why_not(cls) -> str | None:
        """Why it cannot be started here, or None."""
        if os.geteuid() != 0:
            return "needs root, for namespaces"
        missing = [
            program for program in cls.needs if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None
        ]
        return f"{', '.join(missing)} not installed: make schedulers" if missing else None

    def up(self, *binds: str) -> None:
        """Create it; a bind is SOURCE:TARGET."""
        # one line, own name first: Grid Engine looks up the name by address and the address by name
        (self.state / "hosts").write_text(f"127.0.0.1 {HOST} localhost\n")
        namespaces = ["--net", "--uts", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        launcher = subprocess.Popen(
            ["unshare", *namespaces, "--mount-proc", "bash", "-c", _PID_1, "pid1", HOST, str(self.state), *binds],
            stdin=subprocess.DEVNULL,
            stdout=(self.state / "namespace.log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for((self.state / "ready").exists, 60, "the namespace")
        self._pid = int(Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()[0])

    def down(self) -> None:
        if self._pid is not None:
            subprocess.run(["kill", "-TERM", str(self._pid)], check=False)
            wait_for(lambda: not Path(f"/proc/{self._pid}").exists(), 60, "the end of the namespace")

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a command inside and return its output, through a file: daemons that it leaves would keep a pipe open."""
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                self._command(self.state, *arguments), stdout=output, stderr=output, env=self.environment, timeout=120
            )
            output.seek(0)
            text = output.read()
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{text}")
        return text

    def popen(self, *arguments: str, cwd: Path, **options) -> subprocess.Popen:
        return subprocess.Popen(self._command(cwd, *arguments), **options)

    def _command(self, cwd: Path, *arguments: str) -> list[str]:
        # nsenter's own --wd is a folder of the old mount namespace, from which no file can be moved
        into = ["nsenter", "-t", str(self._pid), "--net", "--uts", "--mount", "--pid"]
        return [*into, "env", "-C", str(cwd), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return dict(os.environ)


class Slurm(Namespace):
    """Two pretend nodes with 28 cores and 4 GPUs each, without an accounting database."""

    name = "slurm"
    program_that_asks, program_that_submits = "squeue", "sbatch"
    needs = ("slurmctld", "slurmd", "munged")
    site = MappingProxyType({"scheduler": "slurm", "account_required": False, "queue": "gpu"})
    unknown_queue = "(?s)one_gpu.0: refused: .*?[Ii]nvalid partition"
    hold = ("--hold",)

    def start(self) -> None:
        for folder in ("etc", "munge", "ctld", "dev", "spool.tn0", "spool.tn1"):
            (self.state / folder).mkdir(mode=0o755)
        for number in range(4):  # slurmd needs devices: with plain files it does not set CUDA_VISIBLE_DEVICES
            subprocess.run(["mknod", str(self.state / f"dev/nvidia{number}"), "c", "195", str(number)], check=True)
        for file in ("slurm.conf", "gres.conf"):
            text = (HERE / "slurm" / file).read_text().replace("@STATE@", str(self.state))
            (self.state / "etc" / file).write_text(self._changed(text))
        key = self.state / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        # the plugin drops SLURM_CONF within jobs, so that the files must be where Slurm looks for them
        self.up(f"{self.state}/etc:/etc/slurm")
        munge = {"key-file": key, "socket": self.state / "munge/munge.socket", "pid-file": self.state / "munge/pid"}
        munge |= {"log-file": self.state / "munge/log", "seed-file": self.state / "munge/seed", "origin": "lo"}
        self.run("munged", "--force", "--num-threads=1", *(f"--{name}={value}" for name, value in munge.items()))
        self._start_accounting()
        self.start_master()
        for node in ("tn0", "tn1"):
            self.start_node(node)
        wait_for(self.is_idle, 60, "the nodes")

    def _changed(self, configuration: str) -> str:
        return configuration

    def _start_accounting(self) -> None:
        pass

    def start_master(self) -> None:
        self.run("slurmctld")
        wait_for(lambda: "UP" in self.run("scontrol", "ping", check=False), 60, "slurmctld")

    def stop_master(self) -> None:
        self.run("pkill", "-9", "slurmctld")

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-N", node)

    def is_idle(self) -> bool:
        return set(self.run("sinfo", "-h", "-o", "%T").split()) == {"idle"}

    def stop_node(self, node: str, *, jobs: bool = True) -> None:
        """Kill the daemon of a node and all jobs on it, as a power cut does."""
        self.run("kill", "-9", (self.state / f"slurmd.{node}.pid").read_text().strip())
        if not jobs:
            return
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                on_node = process.environ().get("SLURMD_NODENAME") == node
                if on_node or "slurmstepd" in " ".join(process.info["cmdline"] or []):
                    process.kill()

    def job_ids(self) -> list[str]:
        """The ids of jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%i").split()

    def cancel(self, job: str) -> None:
        self.run("scancel", job)


class SlurmWithAccounting(Slurm):
    """With a database, which knows jobs that slurmctld has forgotten and sets limits for users."""

    name = "slurm-accounting"
    needs = (*Slurm.needs, "slurmdbd", "mariadbd", "mariadb-install-db")
    site = MappingProxyType(dict(Slurm.site) | {"account": "lab"})

    def _changed(self, configuration: str) -> str:
        accounting = (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.1.1\n"
            f"AccountingStoragePass={self.state}/munge/munge.socket\nAccountingStorageEnforce=limits"
        )
        changed = configuration.replace("AccountingStorageType=accounting_storage/none", accounting)
        return changed.replace("MinJobAge=300", "MinJobAge=2")  # squeue soon forgets a job

    def _start_accounting(self) -> None:
        data, socket = self.state / "mysql", self.state / "mysql.sock"
        data.mkdir()
        own = ["--no-defaults", "--user=root", f"--datadir={data}"]
        self.run("mariadb-install-db", *own, "--skip-test-db", "--auth-root-authentication-method=normal")
        files = [
            f"--socket={socket}",
            f"--pid-file={self.state}/mariadbd.pid",
            f"--log-error={self.state}/mariadbd.log",
        ]
        network = ["--bind-address=127.0.0.1", "--port=13306"]
        self.popen("setsid", "mariadbd", *own, *files, *network, cwd=self.state, stdin=subprocess.DEVNULL)
        ping = ["mariadb-admin", "--no-defaults", "-S", str(socket), "ping"]
        wait_for(lambda: "alive" in self.run(*ping, check=False), 60, "mariadbd")
        values = {"DbdHost": HOST, "DbdAddr": "127.0.1.1", "SlurmUser": "root", "AuthType": "auth/munge"}
        values |= {"AuthInfo": f"socket={self.state}/munge/munge.socket", "StorageType": "accounting_storage/mysql"}
        values |= {"StorageHost": "127.0.0.1", "StoragePort": "13306", "StorageUser": "root", "CommitDelay": "1"}
        values |= {"StorageLoc": "slurm_acct_db", "LogFile": f"{self.state}/slurmdbd.log"}
        values |= {"PidFile": f"{self.state}/slurmdbd.pid"}
        file = self.state / "etc/slurmdbd.conf"
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        file.chmod(0o600)
        self.start_database()
        for what in (["cluster", "loopback"], ["account", "lab"], ["user", "root", "account=lab"]):
            self.run("sacctmgr", "-i", "add", *what)

    def start_database(self) -> None:
        self.run("slurmdbd")
        wait_for(lambda: "error" not in self.run("sacctmgr", "-n", "show", "cluster", check=False), 60, "slurmdbd")

    def stop_database(self) -> None:
        self.run("pkill", "-9", "slurmdbd")

    def limit_jobs(self, count: int | None) -> None:
        """Set how many jobs of a user may wait and run."""
        limit = f"MaxSubmitJobs={-1 if count is None else count}"
        self.run("sacctmgr", "-i", "modify", "user", "root", "set", limit)


class GridEngine(Namespace):
    """One pretend host with 4 GPUs and TSUBAME's resource types, which refuses what TSUBAME refuses."""

    name = "gridengine"
    program_that_asks, program_that_submits = "qstat", "qsub"
    needs = ("qsub", "qconf", "sge_qmaster")
    site = MappingProxyType(
        {
            "scheduler": "gridengine",
            "account": "tga-test",
            "resource_types": {0: "cpu_4=1", 1: "node_q=1", 2: "node_h=1", 4: "node_f=1"},
        }
    )
    unknown_queue = "one_gpu.0: refused: .*(?i:queue).*nowhere"
    hold = ("-h",)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "SGE_ROOT": str(self.state / "sge"),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": "6444",
            "SGE_EXECD_PORT": "6445",
            "SGE_CLUSTER_NAME": "loopback",
            "SGE_SINGLE_LINE": "1",  # qconf would break long values into lines
            "GROUPS_LOG": str(self.state / "groups.log"),
            "PATH": f"{self.state}/bin:{os.environ['PATH']}",
        }
        return os.environ | own

    def start(self) -> None:
        for folder in ("bin", "spool/db", "spool/qmaster", "spool/execd", "pool", "sge/default/common", "pids"):
            (self.state / folder).mkdir(parents=True)
        for folder in ("bin", "lib", "util", "utilbin"):
            (self.state / "sge" / folder).symlink_to(f"/var/lib/gridengine/{folder}")
        for script in ("verify.sh", "prolog.sh", "epilog.sh"):
            shutil.copy(HERE / "gridengine" / script, self.state / script)
        shutil.copy(HERE / "gridengine" / "qsub", self.state / "bin" / "qsub")
        common = self.state / "sge/default/common"
        text = Path("/var/lib/gridengine/default/common/bootstrap").read_text()
        text = re.sub(r"(?m)^admin_user.*", "admin_user none", text)
        text = text.replace("/var/spool/gridengine/spooldb", f"{self.state}/spool/db")
        (common / "bootstrap").write_text(text.replace("/var/spool/gridengine/qmaster", f"{self.state}/spool/qmaster"))
        (common / "act_qmaster").write_text(f"{HOST}\n")
        self.up()
        root = str(self.state / "sge")
        self.run("/usr/share/gridengine/scripts/init_cluster", root, "default", f"{self.state}/spool/db", "root")
        self.start_master()
        self.run("qconf", "-ah", HOST, check=False)
        self.run("qconf", "-as", HOST)
        self._configure()
        self.start_node()
        wait_for(lambda: HOST in self.run("qconf", "-sel", check=False), 60, "the execution host")
        types = "gpu=4,f_node=1,h_node=2,q_node=4,q_core=28,node_f=1,node_h=2,node_q=4,gpu_1=4,cpu_4=7"
        self.run("qconf", "-mattr", "exechost", "complex_values", types, HOST)
        self.run("qconf", "-Aq", self._file("queue", (HERE / "gridengine" / "queue").read_text()))
        wait_for(lambda: "lx-" in self.run("qhost", "-h", HOST, check=False), 60, "the load of the host")

    def _configure(self) -> None:
        """Set short scheduling intervals, TSUBAME's resource types, and programs that hand out GPUs around each job."""
        pool = self.state / "pool"
        self._edit("-sconf", "-Mconf", {
            "min_uid": "0",
            "min_gid": "0",
            "execd_spool_dir": f"{self.state}/spool/execd",
            "mailer": "/bin/true",
            "prolog": f"root@{self.state}/prolog.sh {pool}",
            "epilog": f"root@{self.state}/epilog.sh {pool}",
            "jsv_url": f"script:{self.state}/verify.sh",
            "load_report_time": "00:00:05",
            "max_unheard": "00:00:20",
            "reporting_params": "accounting=true reporting=false flush_time=00:00:15 accounting_flush_time=00:00:00 "
            "joblog=false sharelog=00:00:00",
        })  # fmt: skip
        self._edit("-ssconf", "-Msconf", {
            "schedule_interval": "0:0:2",
            "flush_submit_sec": "1",
            "flush_finish_sec": "1",
            "job_load_adjustments": "NONE",
            "load_formula": "slots",
        })  # fmt: skip
        known = [line for line in self.run("qconf", "-sc").splitlines() if not line.startswith("#")]
        names = ["f_node", "h_node", "q_node", "q_core", "node_f", "node_h", "node_q", "gpu_1", "cpu_4"]
        known += ["gpu gpu INT <= YES YES 0 0", *(f"{name} {name} INT <= YES NO 0 0" for name in names)]
        self.run("qconf", "-Mc", self._file("complexes", "\n".join(known) + "\n"))

    def _edit(self, show: str, change: str, values: dict[str, str]) -> None:
        lines = dict(
            line.split(None, 1) for line in self.run("qconf", show).splitlines() if len(line.split(None, 1)) == 2
        )
        text = "".join(f"{name} {value}\n" for name, value in (lines | values).items())
        self.run("qconf", change, self._file("global", text))  # the file's name is that of the configuration

    def _file(self, name: str, text: str) -> str:
        (self.state / name).write_text(text)
        return str(self.state / name)

    def start_master(self) -> None:
        self.run("env", f"SGE_MASTER_PIDFILE={self.state}/pids/qmaster", "/usr/sbin/sge_qmaster")
        wait_for(lambda: HOST in self.run("qconf", "-sh", check=False), 60, "sge_qmaster")

    def stop_master(self) -> None:
        self.run("pkill", "-9", "sge_qmaster")

    def start_node(self, node: str = HOST) -> None:
        self.run("env", f"SGE_EXECD_PIDFILE={self.state}/pids/execd", "/usr/sbin/sge_execd")

    def limit_jobs(self, count: int | None) -> None:
        """Set how many jobs of a user may wait and run."""
        self._edit("-sconf", "-Mconf", {"max_u_jobs": str(count or 0)})

    def stop_node(self, node: str = HOST) -> None:
        self.run("pkill", "-9", "sge_execd")

    def job_ids(self) -> list[str]:
        """The ids of jobs that wait or run."""
        return [line.split()[0] for line in self.run("qstat", "-u", "*").splitlines()[2:]]

    def cancel(self, job: str) -> None:
        self.run("qdel", job)


KINDS = {kind.name: kind for kind in (Slurm, SlurmWithAccounting, GridEngine)}


@contextmanager
def started(name: str, tmp_path_factory) -> Iterator[Namespace]:
    """Start a scheduler and stop it at the end. Tests are skipped where it cannot be started."""
    kind = KINDS[name]
    if reason := kind.why_not():
        pytest.skip(f"{kind.name}: {reason}")
    machine = kind(tmp_path_factory.mktemp(kind.name))
    try:
        machine.start()
        yield machine
    finally:
        machine.down()
