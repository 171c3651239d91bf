"""MiniStack, an AWS emulator, as a process of its own.

A script with its own locked environment (`uv lock --script infra/emulator.py`):
MiniStack pins a botocore of its own, which must not bind the one that the
image ships. It ends when its standard input does, so that no emulator
outlives whoever started it, however that one ended.
"""

# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "aws-sam-translator==1.115.0",  # MiniStack's SAM transform, which it doesn't ask for itself
#     "ministack==1.5.33",
# ]
# ///

import os
import runpy
import signal
import sys
import threading


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)  # with the functions' processes, which are of this group


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    runpy.run_module("ministack", run_name="__main__")
