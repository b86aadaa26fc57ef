//! How figures are said, in sentences and in reports: binary units, few digits, the same everywhere.

/// "612 MiB", "1.9 KiB", "96 B".
pub fn bytes(n: u64) -> String {
    let (value, unit) = scaled(n as f64);
    format!("{} {unit}", digits(value, unit == "B"))
}

/// "3.5 MiB (1.6..6.7)": the interval in the figure's own unit. Nothing behind the figure where the ends read as it does.
pub fn bytes_interval(n: u64, low: u64, high: u64, after: &str) -> String {
    let figure = bytes(n);
    if bytes(low) == figure && bytes(high) == figure {
        return figure;
    }
    if n == 0 {
        return format!("{figure} (0..{}{after})", bytes(high));
    }
    let (value, unit) = scaled(n as f64);
    let end = |end: u64| digits(end as f64 * value / n as f64, unit == "B");
    format!("{figure} ({}..{}{after})", end(low), end(high))
}

/// "+1.8 MiB/s".
pub fn byte_rate(per_s: f64) -> String {
    let (value, unit) = scaled(per_s.abs());
    format!("{}{} {unit}/s", sign(per_s), digits(value, false))
}

/// "+1.8 MiB/s (1.6..2.0, 95 %)": the interval in the rate's own unit.
pub fn byte_rate_interval(per_s: f64, low: f64, high: f64) -> String {
    let (value, unit) = scaled(per_s.abs());
    let scale = if value > 0.0 { per_s.abs() / value } else { 1.0 };
    let places = usize::from(value < 10.0);
    format!(
        "{}{value:.places$} {unit}/s ({:.places$}..{:.places$}, 95 %)",
        sign(per_s),
        low / scale,
        high / scale
    )
}

/// "+57 goroutines/min (52..61, 95 %)".
pub fn per_minute_interval(what: &str, per_s: f64, low: f64, high: f64) -> String {
    let places = usize::from(per_s.abs() * 60.0 < 10.0);
    format!(
        "{}{:.places$} {what}/min ({:.places$}..{:.places$}, 95 %)",
        sign(per_s),
        per_s.abs() * 60.0,
        low * 60.0,
        high * 60.0
    )
}

/// "+5 600 entries/s (5 500..5 700, 95 %)"; by the minute where they are few.
pub fn per_second_interval(what: &str, per_s: f64, low: f64, high: f64) -> String {
    if per_s.abs() < 10.0 {
        return per_minute_interval(what, per_s, low, high);
    }
    let whole = |x: f64| format!("{}{}", if x < 0.0 { "-" } else { "" }, count(x.abs().round() as u64));
    format!(
        "{}{} {what}/s ({}..{}, 95 %)",
        sign(per_s),
        count(per_s.abs().round() as u64),
        whole(low),
        whole(high)
    )
}

/// "9 981", "1.9 M".
pub fn count(n: u64) -> String {
    if n >= 1_000_000 {
        let (value, unit) = match n {
            0..1_000_000_000 => (n as f64 / 1e6, "M"),
            _ => (n as f64 / 1e9, "G"),
        };
        return format!("{} {unit}", digits(value, false));
    }
    let text = n.to_string();
    if text.len() <= 3 {
        return text;
    }
    let (head, tail) = text.split_at(text.len() - 3);
    format!("{head} {tail}")
}

/// "12 objects", "1 object".
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A rate of events: "5 600/s", "1.2/s", "3.0/min".
pub fn event_rate(per_s: f64) -> String {
    if per_s >= 100.0 {
        format!("{}/s", count(per_s.round() as u64))
    } else if per_s >= 10.0 {
        format!("{per_s:.0}/s")
    } else if per_s >= 1.0 {
        format!("{per_s:.1}/s")
    } else if per_s >= 0.01 {
        format!("{:.1}/min", per_s * 60.0)
    } else {
        format!("{:.1}/h", per_s * 3600.0)
    }
}

/// "45s", "2m10s", "3h12m", "3d4h".
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => two(s / 60, "m", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// A pause or another short time: "210 us", "1.4 ms".
pub fn short_time(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{} us", digits(seconds * 1e6, false))
    } else if seconds < 1.0 {
        format!("{} ms", digits(seconds * 1e3, false))
    } else {
        format!("{} s", digits(seconds, false))
    }
}

/// A share: "72 %", "0.3 %", "< 0.1 %".
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if p >= 10.0 || p == 0.0 {
        format!("{p:.0} %")
    } else if p >= 0.1 {
        format!("{p:.1} %")
    } else {
        "< 0.1 %".to_owned()
    }
}

fn sign(x: f64) -> &'static str {
    if x < 0.0 { "-" } else { "+" }
}

fn digits(value: f64, whole: bool) -> String {
    if whole || value >= 9.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn scaled(n: f64) -> (f64, &'static str) {
    let mut value = n;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        // 1023.6 KiB would be printed as 1024.
        if value < 1023.5 {
            return (value, unit);
        }
        value /= 1024.0;
    }
    (value, "TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(96), "96 B");
        assert_eq!(bytes(1_946), "1.9 KiB");
        assert_eq!(bytes(612 << 20), "612 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        let mib = |n: f64| (n * 1_048_576.0) as u64;
        assert_eq!(bytes_interval(mib(3.5), mib(1.5), mib(6.9), ""), "3.5 MiB (1.5..6.9)");
        assert_eq!(bytes_interval(mib(105.0), mib(91.0), mib(119.2), ", 95 %"), "105 MiB (91..119, 95 %)");
        assert_eq!(bytes_interval(512 << 10, 25 << 10, mib(2.4), ""), "512 KiB (25..2458)");
        assert_eq!(bytes_interval(0, 0, 1_570_626, ""), "0 B (0..1.5 MiB)");
        assert_eq!(bytes_interval(mib(40.0), mib(39.9), mib(40.1), ""), "40 MiB");
        assert_eq!(byte_rate(1.8 * 1_048_576.0), "+1.8 MiB/s");
        assert_eq!(byte_rate_interval(1_887_437.0, 1_677_722.0, 2_097_152.0), "+1.8 MiB/s (1.6..2.0, 95 %)");
        assert_eq!(per_minute_interval("goroutines", 0.95, 0.9, 1.0), "+57 goroutines/min (54..60, 95 %)");
        assert_eq!(
            per_second_interval("entries", 5_600.4, 5_500.0, 5_700.0),
            "+5 600 entries/s (5 500..5 700, 95 %)"
        );
        assert_eq!(per_second_interval("entries", 0.5, 0.4, 0.6), "+30 entries/min (24..36, 95 %)");
        assert_eq!(count(981), "981");
        assert_eq!(count(9_981), "9 981");
        assert_eq!(count(10_042), "10 042");
        assert_eq!(count(1_900_000), "1.9 M");
        assert_eq!(event_rate(5_600.0), "5 600/s");
        assert_eq!(event_rate(0.1), "6.0/min");
        assert_eq!(duration(45.2), "45s");
        assert_eq!(duration(130.0), "2m10s");
        assert_eq!(duration(11_520.0), "3h12m");
        assert_eq!(duration(273_600.0), "3d4h");
        assert_eq!(short_time(0.000_21), "210 us");
        assert_eq!(percent(0.003), "0.3 %");
        assert_eq!(percent(0.72), "72 %");
    }
}
