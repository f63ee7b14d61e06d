use super::*;
use crate::error::{Exit, Explain};
use crate::retention_lock::{LockMode, RetentionLock};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("t.toml"))
}

#[test]
fn a_store_is_a_whole_configuration() {
    let config = parse("[store]\nurl = \"file:///var/backups/freezeframe\"\n").unwrap();
    assert_eq!(config.max_window(), Duration::from_secs(10));
    let printed = config.to_toml().unwrap();
    assert_eq!(parse(&printed).unwrap().to_toml().unwrap(), printed);
}

#[test]
fn the_shipped_default_parses_and_states_the_defaults() {
    let shipped = include_str!("../../packaging/freezeframe.toml");
    let minimal = parse("[store]\nurl = \"file:///var/backups/freezeframe\"\n").unwrap();
    assert_eq!(
        parse(shipped).unwrap().to_toml().unwrap(),
        minimal.to_toml().unwrap()
    );
    // Every key is shown, commented out with its default or an example: uncommented, all are known.
    let uncommented: String = shipped
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let all = parse(&uncommented);
    assert!(
        matches!(&all, Err(ConfigError::Inconsistent { .. }) | Ok(_)),
        "{all:?}"
    );
    for key in known_keys() {
        assert!(
            shipped.contains(&key),
            "the shipped configuration does not explain {key}"
        );
    }
}

/// Every key the configuration knows, by its serialized form with all options filled.
fn known_keys() -> Vec<String> {
    let mut config = parse("[store]\nurl = \"file:///x\"\n").unwrap();
    let path = || Some(PathBuf::from("/x"));
    config.mongodb.username = Some("u".into());
    config.mongodb.password_file = path();
    config.mongodb.auth_mechanism = Some(AuthMechanism::X509);
    config.mongodb.tls_ca_file = path();
    config.mongodb.tls_certificate_key_file = path();
    config.mongodb.tls_certificate_key_password_file = path();
    config.window.max_hold = Some(Period(Duration::from_secs(1)));
    config.archive.level = Some(1);
    config.archive.threads = std::num::NonZeroUsize::new(2);
    config.restore.mongod = path();
    config.ebs.instance = Some("i-0123456789abcdef0".parse().unwrap());
    config.ebs.region = Some("eu-central-1".parse().unwrap());
    config.ebs.endpoint = Some("http://x".parse().unwrap());
    config.ebs.metadata = Some("http://x".parse().unwrap());
    config.ebs.profile = Some("backup".into());
    config.ebs.copy_to = Some("eu-west-1".parse().unwrap());
    config.ebs.copy_kms_key = Some("alias/backup".into());
    config.ebs.copy_endpoint = Some("http://x".parse().unwrap());
    config.ebs.share_with = vec!["123456789012".parse().unwrap()];
    config.ebs.lock = Some(RetentionLock {
        mode: LockMode::Governance,
        days: 7.try_into().unwrap(),
    });
    config.retention.keep_within = Some(Period(Duration::from_secs(1)));
    config.restore.scratch_dir = path();
    config.watch.max_verify_age = Some(Period(Duration::from_secs(1)));
    config.metrics.textfile = path();
    let text = config.to_toml().unwrap();
    text.lines()
        .filter_map(|l| l.split_once(" = "))
        .map(|(key, _)| format!("{key} = "))
        .collect()
}

#[test]
fn what_stays_by_default_depends_on_the_store() {
    for (url, days) in [("file:///b", 7), ("s3://bucket/prefix", 30)] {
        let config = parse(&format!("[store]\nurl = \"{url}\"\n")).unwrap();
        let rules = config.retention_rules();
        assert_eq!(rules.keep_within.0, Duration::from_secs(days * 86_400));
        assert_eq!(rules.keep_last, 3);
        let shown = config.in_force().to_toml().unwrap();
        assert!(
            shown.contains(&format!("keep_within = \"{days}days\"")),
            "{shown}"
        );
    }
    let given = "[store]\nurl = \"s3://b\"\n[retention]\nkeep_within = \"2d\"\ndaily = 14\n";
    let rules = parse(given).unwrap().retention_rules();
    assert_eq!(rules.keep_within.0, Duration::from_secs(2 * 86_400));
    assert_eq!((rules.daily, rules.weekly), (14, 0));
}

#[test]
fn invalid_files_name_the_line_and_the_fix() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/config/invalid");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // The first line says what the message must contain.
        let wanted = text
            .lines()
            .next()
            .unwrap()
            .strip_prefix("# expect: ")
            .unwrap();
        let error = parse(&text).unwrap_err();
        let message = format!("{error}\n{}", error.hint().unwrap_or_default());
        for part in wanted.split(" | ") {
            assert!(
                message.contains(part),
                "{}: no {part:?} in:\n{message}",
                path.display()
            );
        }
        assert_eq!(error.exit(), Exit::Usage);
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} invalid configurations");
}

proptest::proptest! {
    #[test]
    fn anything_may_stand_in_the_file(text: String, key in "[a-z_.]{1,12}", value: String) {
        let _ = parse(&text);
        let _ = parse(&format!("[store]\nurl = \"file:///b\"\n{key} = {value}\n"));
        let _ = parse(&format!("[store]\nurl = {value:?}\n"));
    }
}
