#!/usr/bin/env python3
"""typed [PROMPT ANSWER]... -- COMMAND...
Runs COMMAND at a terminal of its own and, when it shows each PROMPT, types the ANSWER; one that begins with `unseen:` when the terminal does not show
what is typed any more. Prints what was to be seen, and ends as it does."""
import os
import pty
import select
import sys
import termios
import time


UNSEEN = "unseen:"


def is_awaited(answer, terminal):
    return not answer.startswith(UNSEEN) or not termios.tcgetattr(terminal)[3] & termios.ECHO


def main(arguments):
    at = arguments.index("--")
    asked, command = arguments[:at], arguments[at + 1 :]
    answers = list(zip(asked[::2], asked[1::2], strict=True))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    seen = looked_at = b""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                read = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
            if not read:
                break
            seen += read
            looked_at += read
        if answers and answers[0][0].encode() in looked_at and is_awaited(answers[0][1], terminal):
            _, answer = answers.pop(0)
            looked_at = b""
            os.write(terminal, answer.removeprefix(UNSEEN).encode() + b"\r")
    else:
        os.kill(pid, 9)
    sys.stdout.write(seen.decode(errors="replace").replace("\r\n", "\n"))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for prompt, _ in answers:
        sys.stdout.write(f"typed: it never asked: {prompt}\n")
    sys.exit(1 if answers else code)


main(sys.argv[1:])
