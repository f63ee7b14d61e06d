//! Lengths of time and sizes as a person reads them: one form each in everything that is said.
//!
//! What is to be written into the configuration is quoted in the configuration's own form instead (`"10m"`).

use std::time::Duration;

/// As much as says enough: "4.2 ms", "665.9 ms", "1.28 s", "12.3 s", "4 min 5 s", "2 h 10 min", "3 d 4 h".
pub fn duration(length: Duration) -> String {
    let (micros, seconds) = (length.as_micros(), length.as_secs());
    // What would be rounded up to one of the next unit begins there.
    match micros {
        0 => "0 s".to_owned(),
        1..999_950 => trimmed(format!("{:.1}", length.as_secs_f64() * 1e3), "ms"),
        999_950..9_995_000 => trimmed(format!("{:.2}", length.as_secs_f64()), "s"),
        9_995_000..59_950_000 => trimmed(format!("{:.1}", length.as_secs_f64()), "s"),
        59_950_000..3_600_000_000 => two(seconds.max(60), 60, "min", 1, "s"),
        3_600_000_000..172_800_000_000 => two(seconds, 3_600, "h", 60, "min"),
        _ => two(seconds, 86_400, "d", 3_600, "h"),
    }
}

/// A number with a point, without zeros behind it.
fn trimmed(number: String, unit: &str) -> String {
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{number} {unit}")
}

fn two(seconds: u64, large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    let (whole, rest) = (seconds / large, seconds % large / small);
    match rest {
        0 => format!("{whole} {large_unit}"),
        _ => format!("{whole} {large_unit} {rest} {small_unit}"),
    }
}

/// In binary units: "436 B", "5.3 KiB", "1.2 GiB".
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// A share of 0 to 1 in whole per cent, such as "12 %": never "100 %" of what is not full.
pub fn percent(share: f64) -> String {
    format!("{} %", (share.clamp(0.0, 1.0) * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_one_form() {
        let cases = [
            (0, "0 s"),
            (40, "0 ms"),
            (4_230, "4.2 ms"),
            (20_000, "20 ms"),
            (665_939, "665.9 ms"),
            (999_949, "999.9 ms"),
            (999_950, "1 s"),
            (1_284_000, "1.28 s"),
            (10_000_000, "10 s"),
            (12_345_678, "12.3 s"),
            (59_950_000, "1 min"),
            (245_000_000, "4 min 5 s"),
            (3_600_000_000, "1 h"),
            (7_830_000_000, "2 h 10 min"),
            (273_600_000_000, "3 d 4 h"),
        ];
        for (micros, expected) in cases {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn what_is_not_full_is_not_called_full() {
        let cases = [
            (0.0, "0 %"),
            (0.999, "99 %"),
            (1.0, "100 %"),
            (1.5, "100 %"),
        ];
        for (share, expected) in cases {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn sizes_have_one_form() {
        assert_eq!(size(436), "436 B");
        assert_eq!(size(5_427), "5.3 KiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
    }
}
