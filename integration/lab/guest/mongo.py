"""mongo [--wait SECONDS] HOST:PORT COMMAND [DATABASE]
Runs one database command, given as (extended) JSON, against that very server and prints the reply as one line of relaxed extended JSON.
DATABASE is admin if not given. Exit code 1 with the server's words when it fails."""
import sys

import pymongo
from bson import json_util


def main(arguments):
    wait = 10.0
    if arguments[:1] == ["--wait"]:
        wait = float(arguments[1])
        arguments = arguments[2:]
    if not 2 <= len(arguments) <= 3:
        sys.exit(__doc__)
    server, command = arguments[0], json_util.loads(arguments[1])
    database = arguments[2] if len(arguments) > 2 else "admin"
    client = pymongo.MongoClient(f"mongodb://{server}/", directConnection=True, serverSelectionTimeoutMS=int(wait * 1000))
    try:
        reply = client[database].command(command)
    except pymongo.errors.PyMongoError as e:
        sys.exit(f"mongo: {server}: {e}")
    print(json_util.dumps(reply, json_options=json_util.RELAXED_JSON_OPTIONS))


main(sys.argv[1:])
