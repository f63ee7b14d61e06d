//! Text on its way to a person.

/// `text` with its lines and tabs, and every other control character written as its number.
///
/// Names, errors and whole documents come out of stores that others can write to; a terminal would obey them.
pub fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            other if other.is_control() => shown.extend(other.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(
            without_controls("a\tb\n\u{1b}[2Jü\u{9b}1m\r"),
            "a\tb\n\\u{1b}[2Jü\\u{9b}1m\\u{d}"
        );
    }
}
