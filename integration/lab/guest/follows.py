"""follows PRIMARY MEMBER
The member is not locked, and what the primary has now arrives there."""
import sys
import time

import pymongo

PATIENCE = 60


def top(client):
    return client.local["oplog.rs"].find_one(sort=[("$natural", -1)], projection={"ts": 1})["ts"]


def main(primary, member):
    primary, member = (pymongo.MongoClient(f"mongodb://{h}/", directConnection=True, serverSelectionTimeoutMS=30_000) for h in (primary, member))
    if member.admin.command("currentOp").get("fsyncLock"):
        sys.exit("it is locked")
    primary.admin.command("appendOplogNote", 1, data={"follows": 1})
    wanted, end = top(primary), time.monotonic() + PATIENCE
    while top(member) < wanted:
        if time.monotonic() > end:
            sys.exit(f"it is still at {top(member)}, the primary was at {wanted}")
        time.sleep(0.05)


main(*sys.argv[1:])
