//! Kubernetes quantities as numbers, enough to compare and to add up.

/// The value in thousandths; `None` if the text is not a quantity, or one that no number here holds. Source: apimachinery `resource.Quantity`.
pub(crate) fn millis(text: &str) -> Option<i128> {
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole: i128 = if matches!(whole, "" | "-" | "+") { 0 } else { whole.parse().ok()? };
    if number.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    let nanos = whole.checked_mul(1_000_000_000)?.checked_add(if negative { -nanos } else { nanos })?;
    let times = |factor: i128| nanos.checked_mul(factor);
    let scaled = match suffix {
        "n" => nanos / 1_000_000_000,
        "u" => nanos / 1_000_000,
        "m" => nanos / 1_000,
        "" => nanos,
        "k" => times(1_000)?,
        "M" => times(1_000_000)?,
        "G" => times(1_000_000_000)?,
        "T" => times(1_000_000_000_000)?,
        "P" => times(1_000_000_000_000_000)?,
        "Ki" => times(1 << 10)?,
        "Mi" => times(1 << 20)?,
        "Gi" => times(1 << 30)?,
        "Ti" => times(1 << 40)?,
        "Pi" => times(1 << 50)?,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs().min(18))?;
            if exponent < 0 { nanos / power } else { times(power)? }
        }
    };
    Some(scaled / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_value_however_written() {
        for (text, value) in [
            ("1", 1000),
            ("1000m", 1000),
            ("0.5", 500),
            (".5", 500),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("-2", -2000),
            ("-0.5", -500),
        ] {
            assert_eq!(millis(text), Some(value), "{text}");
        }
        for text in ["", "web", "1x", "nginx:1.21", "99999999999999999999999999999999999999", "1e30Pi"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
