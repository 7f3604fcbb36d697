//! Schedules in Cron format, as robfig/cron's standard parser takes them.

/// (name, least, most, names of the values from the least on)
type Field = (&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of week", 0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Says what is wrong with a schedule.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    let schedule = match schedule.split_once(' ') {
        Some((zone, rest)) if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => rest.trim(),
        _ => schedule,
    };
    if schedule.starts_with('@') {
        let every = schedule.strip_prefix("@every ").is_some_and(is_duration);
        return if every || DESCRIPTORS.contains(&schedule) {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {schedule}"))
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).try_for_each(|(text, field)| {
        text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| range(part, field))
    })
}

/// A Go duration with at least one number and unit.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let units = ["ns", "us", "ms", "s", "m", "h"];
        let Some(unit) = units.iter().find(|unit| after.starts_with(**unit)) else { return false };
        if number.is_empty() {
            return false;
        }
        rest = &after[unit.len()..];
    }
    !text.is_empty()
}

/// `*`, `5`, `1-5`, `*/10`, `mon-fri/2`.
fn range(text: &str, field: Field) -> Result<(), String> {
    let (_, least, most, _) = field;
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, end) = match ends.as_slice() {
        ["*" | "?"] => (least, most),
        [one] => {
            let one = value(one, field)?;
            (one, if parts.len() > 1 { most } else { one })
        }
        [start, end] => (value(start, field)?, value(end, field)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => number(step)?,
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {text}"));
    }
    if end > most {
        return Err(format!("end of range ({end}) above maximum ({most}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn value(text: &str, (_, least, _, names): Field) -> Result<u32, String> {
    let at = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    at.map_or_else(|| number(text), |at| Ok(least + at as u32))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules_are_read_as_cron_reads_them() {
        for good in ["*/5 * * * *", "0 0 1 jan mon-fri", "@hourly", "@every 1h30m", "0,30 8-18/2 * * ?"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("* * * *"), Err("expected exactly 5 fields, found 4: [* * * *]".into()));
        assert_eq!(check("60 * * * *"), Err("end of range (60) above maximum (59): 60".into()));
        assert_eq!(
            check("a * * * *"),
            Err("failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax".into())
        );
        assert!(check("5-1 * * * *").is_err() && check("*/0 * * * *").is_err() && check("@never").is_err());
    }
}
