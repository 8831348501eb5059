//! Time stamps as Go prints them.

/// Appends `ns` since the epoch in Go's `RFC3339Nano` (UTC, no trailing zeroes in the fraction).
pub fn rfc3339_nano(ns: i64, out: &mut Vec<u8>) {
    let seconds = ns.div_euclid(1_000_000_000);
    let fraction = ns.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    digits(year, 4, out);
    for (mark, value) in
        [(b'-', month), (b'-', day), (b'T', clock / 3600), (b':', clock / 60 % 60), (b':', clock % 60)]
    {
        out.push(mark);
        digits(value, 2, out);
    }
    if fraction != 0 {
        out.push(b'.');
        digits(fraction, 9, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn digits(mut value: i64, width: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 9];
    for digit in text[..width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
        value /= 10;
    }
    out.extend_from_slice(&text[..width]);
}

/// The date of a number of days since 1970-01-01, in the Gregorian calendar: eras of 400 years that begin in March, so
/// that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ns: i64) -> String {
        let mut out = Vec::new();
        rfc3339_nano(ns, &mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn known_moments() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_735_689_599_120_000_000), "2024-12-31T23:59:59.12Z");
        assert_eq!(text(4_107_542_400_500_000_000), "2100-03-01T00:00:00.5Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
