//! Figures in words, the same everywhere.

/// `1 attempt`, `2 attempts`.
pub fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Bytes in the largest unit that leaves them whole.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes == u64::MAX {
        return "2^64-1 B".to_owned();
    }
    let (mut rest, mut unit) = (bytes, 0);
    while rest > 0 && rest.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

/// Bytes in the largest unit up to GiB in which they are not below one, rounded.
pub fn about_size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes >= 1 << 30 => format!("{:.0} GiB", bytes as f64 / f64::from(1 << 30)),
        _ if bytes >= 1 << 20 => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.0} KiB", bytes as f64 / 1024.0),
    }
}

/// A rate in the unit that people use, with one digit behind the point at most.
pub fn gigabits(bits_per_second: u64) -> String {
    format!("{} Gb/s", (bits_per_second as f64 / 1e8).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        assert_eq!([counted(1, "step"), counted(2, "step")], ["1 step", "2 steps"]);
        assert_eq!([0, 1000, 4096, 3 << 20, 1 << 40, u64::MAX].map(size), ["0 B", "1000 B", "4 KiB", "3 MiB", "1 TiB", "2^64-1 B"]);
        assert_eq!([0, 65_536, 81_559 << 20].map(about_size), ["0 B", "64 KiB", "80 GiB"]);
        assert_eq!([2_500_000_000, 400_000_000_000, 126_030_769_230].map(gigabits), ["2.5 Gb/s", "400 Gb/s", "126 Gb/s"]);
    }
}
