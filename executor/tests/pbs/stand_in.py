#!/usr/bin/env python3
"""qsub, qstat, qselect and qdel of a stand-in for PBS, by the name it is called by; it refuses what PBS refuses.

It runs jobs as processes of this machine, 4 GPUs in all, and answers as the recordings in `recorded` do. Its state
is in the folder $STATE.
"""

import fcntl
import getopt
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["STATE"])
SERVER = "tsubame"
GPUS = 4
SELECT = re.compile(r"select=(\d+):ncpus=(\d+)(?::ngpus=(\d+))?(?::mem=(\d+)(kb|mb|gb))?")


def refuse(message: str, code: int = 1):
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)


def qsub(arguments: list[str]) -> None:
    try:
        options, operands = getopt.getopt(arguments, "VS:r:N:j:o:e:q:P:A:l:W:p:")
    except getopt.GetoptError as error:
        refuse(f"illegal option -- {error.opt}\nusage: qsub [-a date_time] [-A account_string] ...", 2)
    if (STATE / "away").exists():
        refuse("Connection refused\nqsub: cannot connect to server tsubame (errno=15010)", 162)
    if len(operands) != 1 or not Path(operands[0]).is_file():
        refuse(f"script file:: No such file or directory: {operands}")
    given = dict(options)
    name = given.get("-N", "STDIN")
    if not re.fullmatch(r"[A-Za-z][\w.+-]{0,235}", name):
        refuse("illegal -N value")
    if given.get("-j") not in (None, "oe", "eo", "n"):
        refuse("illegal -j value")
    if given.get("-r") not in (None, "y", "n"):
        refuse("illegal -r value")
    resources = [value for option, value in options if option == "-l"]
    select = next((SELECT.fullmatch(value) for value in resources if value.startswith("select=")), None)
    walltime = next((value for value in resources if value.startswith("walltime=")), None)
    if select is None:
        refuse("Illegal attribute or resource value Resource_List.select", 168)
    if walltime is None or not re.fullmatch(r"walltime=\d+:[0-5]\d:[0-5]\d", walltime):
        refuse("Illegal attribute or resource value Resource_List.walltime", 168)
    if int(select[3] or 0) > GPUS:
        refuse("Job violates queue and/or server resource limits", 188)
    if given.get("-P") is None:
        refuse("Unauthorized Request: a project is required (-P)", 159)
    hours, minutes, seconds = map(int, walltime.partition("=")[2].split(":"))
    with locked():
        number = len(list(STATE.glob("*.json"))) + 1
        job = {
            "Job_Name": name,
            "job_state": "Q",
            "substate": 10,
            "script": Path(operands[0]).read_text(),
            "log": given.get("-o", f"{name}.o{number}"),
            "cwd": os.getcwd(),
            "gpus": int(select[3] or 0),
            "seconds": hours * 3600 + minutes * 60 + seconds,
        }
        write(number, job)
    subprocess.Popen(
        [sys.executable, __file__, "run-job", str(number)], start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    print(f"{number}.{SERVER}")


def run(number: int) -> None:
    """Wait for free GPUs, run, and leave what PBS leaves."""
    while True:
        with locked():
            job = read(number)
            if job["job_state"] == "F":  # deleted while it waited
                return
            taken = sum(other["gpus"] for other in jobs().values() if other["job_state"] == "R")
            if taken + job["gpus"] <= GPUS:
                with open(job["log"], "w") as log:
                    environment = os.environ | {"PBS_JOBID": f"{number}.{SERVER}"}
                    process = subprocess.Popen(
                        ["bash", "-c", job["script"]], cwd=job["cwd"], env=environment, stdout=log, stderr=log,
                        start_new_session=True,
                    )  # fmt: skip
                write(number, job | {"job_state": "R", "substate": 42, "pid": process.pid})
                break
        time.sleep(0.2)
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < job["seconds"]:
        time.sleep(0.1)
    over = process.poll() is None
    if over:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with locked():
        job = read(number)
        if job.get("deleted"):
            outcome = {"substate": 91, "Exit_status": 0, "comment": "terminated by user"}
        elif over:
            outcome = {"substate": 93, "Exit_status": -29, "comment": "Job run and failed"}
        else:
            code = process.returncode
            outcome = {"substate": 92 if code == 0 else 93, "Exit_status": code, "comment": "Job run and finished"}
        write(number, job | outcome | {"job_state": "F"})


def qstat(arguments: list[str]) -> None:
    """As OpenPBS 23.06: of several jobs `-F json` prints the first live one alone, `-F dsv` all."""
    options, operands = getopt.getopt(arguments, "xfF:")
    form = dict(options).get("-F")
    if "-f" not in dict(options) or form not in ("json", "dsv"):
        refuse("the stand-in knows -f -F json and -f -F dsv only", 2)
    if (STATE / "away").exists():
        refuse("Connection refused\nqstat: cannot connect to server tsubame (errno=15010)", 255)
    known, code = jobs(), 0
    shown = {}
    for operand in operands:
        number = operand.partition(".")[0]
        if int(number) not in known:
            print(f"qstat: Unknown Job Id {operand}", file=sys.stderr)
            code = 153
        elif known[int(number)]["job_state"] == "F" and "-x" not in dict(options):
            print(
                f"qstat: {operand} Job has finished, use -x or -H to obtain historical job information", file=sys.stderr
            )
            code = 35
        else:
            hidden = ("script", "log", "cwd", "gpus", "seconds", "pid", "deleted")
            job = known[int(number)]
            shown[f"{number}.{SERVER}"] = {key: value for key, value in job.items() if key not in hidden}
    if form == "dsv":
        for name, job in shown.items():
            # an environment may hold lines and bars
            values = {"Variable_List": "PBS_O_HOME=/home/user,BASH_FUNC_ml%%=() {  eval $1\n}"} | job
            print("|".join([f"Job Id: {name}", *(f"{key}={value}" for key, value in values.items())]) + "\n")
    elif shown:
        first = dict([next(iter(shown.items()))])
        print(
            json.dumps({"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER, "Jobs": first})
        )
    sys.exit(code if len(operands) == 1 or form == "dsv" else 0)


def qselect(arguments: list[str]) -> None:
    getopt.getopt(arguments, "xu:")
    if (STATE / "away").exists():
        refuse("Connection refused\nqselect: cannot connect to server tsubame (errno=15010)", 255)
    for number, job in sorted(jobs().items()):
        if job["job_state"] != "F":
            print(f"{number}.{SERVER}")


def qdel(arguments: list[str]) -> None:
    for operand in arguments:
        with locked():
            number = int(operand.partition(".")[0])
            job = read(number)
            if job["job_state"] == "R":
                write(number, job | {"deleted": True})
                os.killpg(job["pid"], signal.SIGTERM)
            elif job["job_state"] == "Q":
                write(number, job | {"job_state": "F", "substate": 91})


class locked:
    def __enter__(self):
        STATE.mkdir(exist_ok=True)
        self._file = open(STATE / "lock", "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self._file.close()


def jobs() -> dict[int, dict]:
    return {int(path.stem): json.loads(path.read_text()) for path in STATE.glob("*.json")}


def read(number: int) -> dict:
    return json.loads((STATE / f"{number}.json").read_text())


def write(number: int, job: dict) -> None:
    part = STATE / f"{number}.part"
    part.write_text(json.dumps(job))
    part.replace(STATE / f"{number}.json")


if __name__ == "__main__":
    if sys.argv[1] == "run-job":
        run(int(sys.argv[2]))
    else:
        {"qsub": qsub, "qstat": qstat, "qselect": qselect, "qdel": qdel}[Path(sys.argv[0]).name](sys.argv[1:])
