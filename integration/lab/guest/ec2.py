#!/opt/lab/moto/bin/python3
# The laboratory's EC2: moto's, with disks behind it. What moto only writes down happens to the guest's disks as well, by the host (integration/lab/plug): volumes
# are files, attaching plugs a disk in, CreateSnapshots pictures all volumes it names at one moment, before it answers.
# ec2.py serve PORT; ec2.py begin N GIB: an instance with N volumes attached, its id and theirs; ec2.py copies SNAPSHOT...: a volume made of each and attached;
# ec2.py away VOLUME...: detached and deleted; ec2.py detach VOLUME...; ec2.py
# disks VOLUME...: their devices; ec2.py snapshots, ec2.py volumes: those of freezeframe; ec2.py forget SNAPSHOT. Every call that came is a line in /host/ebs/calls.
import glob, json, os, re, sys, time
from urllib.parse import parse_qs

FOLDER = "/host/ebs"
PORT = os.environ.get("LAB_EC2_PORT", "5000")
REGION, ZONE = "us-east-1", "us-east-1a"
ASKED = os.path.join(FOLDER, "calls")


def ask(*words):
    number = time.monotonic_ns()
    path = os.path.join(FOLDER, f"{number}.request")
    with open(path + ".new", "w") as file:
        json.dump(words, file)
    os.rename(path + ".new", path)
    done = os.path.join(FOLDER, f"{number}.done")
    while not os.path.exists(done):
        time.sleep(0.01)
    with open(done) as file:
        said = file.read()
    os.remove(done)
    if said:
        raise RuntimeError(f"{words}: {said}")


def disk(volume):
    """The guest's device of a volume, such as /dev/ubdb."""
    for path in glob.glob("/sys/block/ubd*/serial"):
        try:
            with open(path) as file:
                if file.read().strip() == volume.replace("-", ""):
                    return "/dev/" + path.split("/")[3]
        except OSError:
            pass  # unplugged at this moment


def wait_until(condition, what):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise RuntimeError(f"{what} did not come to be")


def behind(action, form, answer):
    """Does to disks what moto has answered."""
    one = lambda name: form.get(name, [""])[0]
    found = lambda tag: re.findall(f"<{tag}>([^<]+)</{tag}>", answer)
    if action == "CreateSnapshots":
        pairs = zip(found("volumeId"), found("snapshotId"))
        ask("picture", *(f"{volume}={snapshot}" for volume, snapshot in pairs if os.path.exists(os.path.join(FOLDER, volume))))
    elif action == "CreateVolume":
        volume = found("volumeId")[0]
        if one("SnapshotId"):
            ask("copy", one("SnapshotId"), volume)
        else:
            ask("make", volume, one("Size"))
    elif action == "AttachVolume":
        ask("plug", one("VolumeId"))
        wait_until(lambda: disk(one("VolumeId")), f"a disk for {one('VolumeId')}")
    elif action == "DetachVolume":
        ask("unplug", one("VolumeId"))
        wait_until(lambda: not disk(one("VolumeId")), f"the end of the disk of {one('VolumeId')}")
    elif action == "DeleteVolume":
        ask("remove", one("VolumeId"))
    elif action == "DeleteSnapshot" and os.path.exists(os.path.join(FOLDER, one("SnapshotId"))):
        ask("remove", one("SnapshotId"))


def serve(port):
    import io
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form = parse_qs(body.decode("latin-1"))
        action, rehearsal = form.get("Action", [""])[0], form.get("DryRun", [""])[0] == "true"
        with open(ASKED, "a") as file:
            file.write(f"{time.time():.3f} {action}{' DryRun' if rehearsal else ''}\n")
        begun = {}

        def start(status, headers, *rest):
            begun.update(status=status, headers=headers)

        said = b"".join(moto(environ, start))
        if begun["status"].startswith("200") and not rehearsal:
            behind(action, form, said.decode("utf-8", "replace"))
        start_response(begun["status"], begun["headers"])
        return [said]

    run_simple("127.0.0.1", int(port), app, threaded=True)


def client():
    import boto3

    return boto3.client("ec2", region_name=REGION, endpoint_url=f"http://127.0.0.1:{PORT}", aws_access_key_id="lab", aws_secret_access_key="lab")


def attach(ec2, instance, volumes):
    names = iter("fghijklmnopqrstuvwxyz")
    taken = {one["Attachments"][0]["Device"] for one in ec2.describe_volumes()["Volumes"] if one["Attachments"]}
    for volume in volumes:
        name = next(name for name in (f"/dev/sd{letter}" for letter in names) if name not in taken)
        ec2.attach_volume(InstanceId=instance, VolumeId=volume, Device=name)


def instance_of(ec2):
    return ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]


def main(verb, *words):
    if verb == "serve":
        return serve(*words)
    ec2 = client()
    if verb == "begin":
        count, size = map(int, words)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE})["Instances"][0]["InstanceId"]
        volumes = [ec2.create_volume(AvailabilityZone=ZONE, Size=size, VolumeType="gp3")["VolumeId"] for _ in range(count)]
        attach(ec2, instance, volumes)
        print(instance, *volumes)
    elif verb == "copies":
        volumes = [ec2.create_volume(AvailabilityZone=ZONE, SnapshotId=snapshot)["VolumeId"] for snapshot in words]
        attach(ec2, instance_of(ec2), volumes)
        print(*volumes)
    elif verb in ("away", "detach"):
        for volume in words:
            # moto wants the instance as well
            ec2.detach_volume(InstanceId=instance_of(ec2), VolumeId=volume)
            if verb == "away":
                ec2.delete_volume(VolumeId=volume)
    elif verb == "disks":
        print(*(disk(volume) for volume in words))
    elif verb == "forget":
        ec2.delete_snapshot(SnapshotId=words[0])
    elif verb == "volumes":
        print(*(one["VolumeId"] for one in ec2.describe_volumes()["Volumes"] if any(tag["Key"] == "freezeframe" for tag in one.get("Tags", []))))
    elif verb == "snapshots":
        print(*(one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] if any(tag["Key"] == "freezeframe" for tag in one.get("Tags", []))))
    else:
        sys.exit(f"ec2.py: no {verb}")


main(*sys.argv[1:])
