//! Numbers as Go writes them.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// A formatter whose floating-point numbers are Go's: without an exponent from 1e-6 up to 1e21, and with a sign in it elsewhere.
pub struct AsGo<F>(F);

impl AsGo<CompactFormatter> {
    /// Without spaces.
    pub fn compact() -> Self {
        Self(CompactFormatter)
    }
}

impl AsGo<PrettyFormatter<'static>> {
    /// On lines of its own each.
    pub fn pretty() -> Self {
        Self(PrettyFormatter::new())
    }
}

/// A number as `%g` prints it: its digits, with an exponent of two digits below 1e-4 and from 1e6 on.
pub fn general(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let power: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&power) {
        return number.to_string();
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// The text of a number, as encoding/json writes it.
fn text(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if size < 1.0 { text } else { text.replacen('e', "e+", 1) }
}

impl<F: Formatter> Formatter for AsGo<F> {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(text(value).as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::{Serializer, json};

    use super::*;

    #[test]
    fn a_number_alone_has_an_exponent_from_a_million_on() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (-2.0, "-2"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (-1.5e300, "-1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(general(number), text);
        }
    }

    #[test]
    fn numbers_have_exponents_where_gos_have_them() {
        let value =
            json!([1e20, 1e21, 1.5e300, 0.1, 1e-6, 1.5e-7, 1e-10, -2.5, 18_446_744_073_709_551_615_f64, 7]);
        let mut out = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut out, AsGo::compact())).unwrap_or_default();
        assert_eq!(
            String::from_utf8_lossy(&out),
            "[100000000000000000000,1e+21,1.5e+300,0.1,0.000001,1.5e-7,1e-10,-2.5,18446744073709552000,7]"
        );
        let mut out = Vec::new();
        json!({"a": [1e21]})
            .serialize(&mut Serializer::with_formatter(&mut out, AsGo::pretty()))
            .unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&out), "{\n  \"a\": [\n    1e+21\n  ]\n}");
    }
}
