//! Values of options.

use std::time::Duration;

/// A time such as `5s`, `200ms` or `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("`{text}` is no time; write it as 200ms, 5s or 2m"))
}

/// A size such as `4k`, `64KiB` or `1M`, in bytes; all units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[end..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    text[..end]
        .parse::<u64>()
        .ok()
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("`{text}` is no size; write it as 4096, 64KiB or 1M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["5", "-1s", "0s", "soon", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("256M"), Ok(256 << 20));
        for bad in ["", "k", "1x", "-1", "99999999999999999999", "18446744073709551615k"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
