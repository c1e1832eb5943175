#!/usr/bin/env python3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from fishertail.clusters.programs import cancel_program

cancel_program("pbs")
