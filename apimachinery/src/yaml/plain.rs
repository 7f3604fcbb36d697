//! Which texts are read as what they are without quotes: go-yaml's `resolve`.

/// Whether YAML reads a text as a text, not as a number, a time, a truth value or null. Those that YAML 1.1 read so count, too.
pub(super) fn is_text(text: &str) -> bool {
    if is_word(text) {
        return false;
    }
    match text.bytes().next() {
        Some(b'.') => !is_float(text),
        Some(b'+' | b'-' | b'0'..=b'9') => !(is_time(text) || is_number(text) || is_base_60(text)),
        _ => true,
    }
}

/// The words for truth values, null, and numbers that are none.
fn is_word(text: &str) -> bool {
    const WORDS: [&str; 13] =
        ["", "~", "y", "n", "yes", "no", "on", "off", "true", "false", "null", ".nan", ".inf"];
    let unsigned =
        text.strip_prefix(['+', '-']).filter(|rest| rest.starts_with(".i") || rest.starts_with(".I"));
    let word = unsigned.unwrap_or(text);
    if word == ".NaN" {
        return true;
    }
    let first = usize::from(word.starts_with('.'));
    let cased = |known: &&&str| {
        let (head, tail) = known.split_at((first + 1).min(known.len()));
        word == **known || word == known.to_uppercase() || word == format!("{}{tail}", head.to_uppercase())
    };
    // `.Nan` is none.
    WORDS.iter().find(cased).is_some_and(|known| *known != ".nan" || word != ".Nan")
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix(['+', '-']) {
        Some(rest) => (plain.as_bytes().first(), rest),
        None => (None, &*plain),
    };
    let fits = |digits: &str, base: u32| {
        !digits.starts_with(['+', '-'])
            && match sign {
                Some(b'-') => i64::from_str_radix(&format!("-{digits}"), base).is_ok(),
                Some(_) => i64::from_str_radix(digits, base).is_ok(),
                None => u64::from_str_radix(digits, base).is_ok(),
            }
    };
    let prefixed = |prefix: &str| {
        let (head, rest) = digits.split_at_checked(2)?;
        head.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    let whole = match (prefixed("0x"), prefixed("0o"), prefixed("0b")) {
        (Some(rest), ..) => fits(rest, 16),
        (_, Some(rest), _) => fits(rest, 8),
        (.., Some(rest)) => fits(rest, 2),
        _ if digits.len() > 1 && digits.starts_with('0') => fits(&digits[1..], 8),
        _ => fits(digits, 10),
    };
    // Here a sign may stand behind the prefix.
    let signed = || {
        let rest = plain.strip_prefix("0b").filter(|rest| rest.starts_with(['+', '-']));
        rest.is_some_and(|rest| i64::from_str_radix(rest, 2).is_ok())
    };
    whole || is_float(&plain) || signed()
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`, if there is such a number.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let some = |text: &str| !text.is_empty() && digits(text);
    let good = match mantissa.split_once('.') {
        Some(("", fraction)) => some(fraction),
        Some((whole, fraction)) => some(whole) && digits(fraction),
        None => some(mantissa),
    };
    good && exponent.is_none_or(some) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Sexagesimals of YAML 1.1 are no numbers here, but to others: `^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$`.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let mut more = parts.clone();
    let sixty = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => matches!(ten, b'0'..=b'5') && one.is_ascii_digit(),
        _ => false,
    };
    first.starts_with(|letter: char| letter.is_ascii_digit())
        && first.bytes().all(digit)
        && more.next().is_some()
        && parts.all(sixty)
        && fraction.bytes().all(digit)
}

/// A day, or a time of a day (`parseTimestamp`).
fn is_time(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else { return false };
    if !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let day = || {
        let (month, rest) = number(rest.strip_prefix('-')?)?;
        let (day, rest) = number(rest.strip_prefix('-')?)?;
        let date = jiff::civil::Date::new(year.parse().ok()?, month, day).ok()?;
        Some((date, rest))
    };
    let Some((_, rest)) = day() else { return false };
    if rest.is_empty() {
        return true;
    }
    let clock = |rest: &str| -> Option<String> {
        let (hour, rest) = number(rest)?;
        let (minute, rest) = number(rest.strip_prefix(':')?)?;
        let (second, rest) = number(rest.strip_prefix(':')?)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let fraction = rest
            .strip_prefix(['.', ','])
            .filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
        let rest =
            fraction.map_or(rest, |rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        Some(rest.to_owned())
    };
    if let Some(rest) = rest.strip_prefix(' ') {
        return clock(rest).is_some_and(|rest| rest.is_empty());
    }
    rest.strip_prefix(['T', 't']).and_then(clock).is_some_and(|zone| zone == "Z" || is_offset(&zone))
}

/// One digit or two.
fn number(text: &str) -> Option<(i8, &str)> {
    let end = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

fn is_offset(zone: &str) -> bool {
    let two = |text: Option<&str>, max: u8| {
        text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u8>().ok())
            .is_some_and(|number| number <= max)
    };
    zone.len() == 6
        && zone.starts_with(['+', '-'])
        && zone.get(3..4) == Some(":")
        && two(zone.get(1..3), 24)
        && two(zone.get(4..6), 60)
}
