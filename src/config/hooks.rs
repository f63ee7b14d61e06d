//! `[hooks]`: commands of the operator's around a backup.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Period;

/// `[hooks]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Runs before anything else. Where it fails there is no backup.
    pub before: Option<Hook>,
    /// Runs when a backup was made and everything given back.
    pub after: Option<Hook>,
    /// Runs when there is no backup, or something is left of the run.
    pub failed: Option<Hook>,
    /// Undoes `before`: runs in every outcome, after a kill with `recover`, when everything else is given back.
    pub finally: Option<Hook>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program, by its whole path, and arguments. No shell comes between.
    pub command: Vec<String>,
    /// When it is killed, with whatever it has started, and has failed.
    #[serde(default = "Hook::default_timeout")]
    pub timeout: Period,
}

impl Hook {
    fn default_timeout() -> Period {
        Period(Duration::from_secs(60))
    }

    /// Whether the command begins with a path from the root.
    fn is_whole(&self) -> bool {
        let program = self.command.first();
        program.is_some_and(|program| Path::new(program).is_absolute())
    }
}

impl HooksConfig {
    /// The hooks that there are, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Hook)> {
        let named = [
            ("before", &self.before),
            ("after", &self.after),
            ("failed", &self.failed),
            ("finally", &self.finally),
        ];
        named
            .into_iter()
            .filter_map(|(name, hook)| Some((name, hook.as_ref()?)))
    }

    /// The first hook whose command nobody can run: the key to point at, what is wrong, what to write.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let (name, _) = self.all().find(|(_, hook)| !hook.is_whole())?;
        Some((
            name,
            "a hook's command is a program's whole path and its arguments",
            "write it like command = [\"/usr/local/bin/stop-reports\", \"--now\"]",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<HooksConfig, String> {
        let text = format!("[store]\nurl = \"/var/backups\"\n{text}");
        let config = Config::parse(&text, Path::new("x.toml"));
        config
            .map(|config| config.hooks)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_is_a_program_by_its_path_with_a_time_limit() {
        let hooks = parse(
            r#"
            [hooks]
            before = { command = ["/bin/x", "-v"] }
            finally = { command = ["/bin/y"], timeout = "10s" }
            "#,
        );
        let hooks = hooks.unwrap();
        let found: Vec<_> = hooks
            .all()
            .map(|(name, hook)| (name, hook.command[0].as_str(), hook.timeout.0.as_secs()))
            .collect();
        assert_eq!(found, [("before", "/bin/x", 60), ("finally", "/bin/y", 10)]);
        for wrong in ["[]", r#"["x"]"#, r#"["bin/x", "/bin/x"]"#] {
            let error = parse(&format!("[hooks]\nafter = {{ command = {wrong} }}")).unwrap_err();
            assert!(error.contains("line 4: a hook's command"), "{error}");
        }
        parse("[hooks]\nbefore = { command = \"/bin/x\" }").unwrap_err();
    }
}
