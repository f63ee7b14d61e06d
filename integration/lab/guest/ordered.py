#!/usr/bin/python3
# ordered.py FILE write|read: writes block after block of a file that lies across the members of an array, each on disk before the next begins, over and over, until
# /run/ordered.stop is there, without a pause while a window may be open, and else now and then, because that takes all of a processor; or tells whether a picture of it is of one moment: then no block is newer than the one before it; it ends with 3 where it is not. No name and no size of the file
# system changes meanwhile: it writes past caches to blocks that are there.
import glob, mmap, os, struct, sys, time
CHUNK = 64 << 10
path, mode = sys.argv[1:]
def number(fd, at):
    return struct.unpack("<Q", os.pread(fd, 8, at))[0]
if mode == "read":
    fd = os.open(path, os.O_RDONLY)
    pairs = [(number(fd, pair * 2 * CHUNK), number(fd, (pair * 2 + 1) * CHUNK)) for pair in range(8)]
    print(pairs)
    # All pairs are one chain: 0A 0B 1A 1B ... Each number is as new as the one before it, or one round older; never newer.
    chain = [n for pair in pairs for n in pair]
    torn = any(later > earlier for earlier, later in zip(chain, chain[1:])) or chain[0] > chain[-1] + 1
    sys.exit(3 if torn else 0)
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC)
block = mmap.mmap(-1, CHUNK)
for at in range(16):
    os.pwrite(fd, block, at * CHUNK)
os.fsync(fd)
print("ready", flush=True)
n = 0
while not os.path.exists("/run/ordered.stop"):
    n += 1
    # The timer is armed before the lock, and disarmed after it.
    if not glob.glob("/run/systemd/transient/freezeframe-recover-*.timer"):
        time.sleep(0.1)
    block[:8] = struct.pack("<Q", n)
    for at in range(16):
        os.pwrite(fd, memoryview(block)[:4096], at * CHUNK)
