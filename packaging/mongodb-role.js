// The least a MongoDB user needs to be backed up by freezeframe: it can look at the state of
// the server and hold it still, and can neither read nor write your data.
//
//   mongosh "mongodb://ADMIN@PRIMARY/admin" mongodb-role.js
//
// Run it on the primary of the replica set; of a sharded cluster, on the primary of each shard
// and of the config servers. Running it again brings an older role up to date. It asks for the
// new user's password. In the environment:
//   FREEZEFRAME_USER           another user name than "freezeframe"
//   FREEZEFRAME_X509_SUBJECT   make the user of this certificate subject instead (no password)

// Strict JSON: the project's tests read it from here.
const privileges = [
  { "resource": { "cluster": true },
    "actions": ["fsync", "unlock", "serverStatus", "getCmdLineOpts", "replSetGetStatus",
                "replSetGetConfig", "inprog", "appendOplogNote"] },
  { "resource": { "db": "local", "collection": "oplog.rs" }, "actions": ["find"] },
  { "resource": { "db": "admin", "collection": "system.version" }, "actions": ["find"] },
  { "resource": { "db": "config", "collection": "settings" }, "actions": ["find", "update", "insert"] },
  { "resource": { "db": "config", "collection": "shards" }, "actions": ["find"] },
  { "resource": { "db": "config", "collection": "version" }, "actions": ["find"] },
  { "resource": { "db": "config", "collection": "migrations" }, "actions": ["find"] },
  { "resource": { "db": "config", "collection": "migrationCoordinators" }, "actions": ["find"] }
];

const roleName = "freezeframe";
const subject = process.env.FREEZEFRAME_X509_SUBJECT;
const userName = subject || process.env.FREEZEFRAME_USER || "freezeframe";
const admin = db.getSiblingDB("admin");
const users = subject ? db.getSiblingDB("$external") : admin;
const role = { role: roleName, db: "admin" };

if (admin.getRole(roleName)) {
  admin.updateRole(roleName, { privileges: privileges, roles: [] });
  print("role " + roleName + " updated");
} else {
  admin.createRole({ role: roleName, privileges: privileges, roles: [] });
  print("role " + roleName + " made");
}

if (users.getUser(userName)) {
  users.grantRolesToUser(userName, [role]);
  print("user " + userName + " has it");
} else {
  const user = { user: userName, roles: [role] };
  if (!subject) {
    user.pwd = passwordPrompt();
  }
  users.createUser(user);
  print("user " + userName + " made");
}
