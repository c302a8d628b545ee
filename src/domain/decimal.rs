//! Exact decimals for limits: no binary rounding decides what an agent may spend.

use std::fmt;

use serde_json::Number;

const PLACES: usize = 15;
const UNIT: i128 = 1_000_000_000_000_000;

/// An exact decimal: at most 15 digits before and 15 after the point, at most 15 significant ones if it has a fraction.
///
/// The bounds are those within which a JSON number survives any JSON library's binary64 unchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decimal(i128);

impl Decimal {
    /// Reads a JSON number; `None` when it exceeds the bounds above.
    pub fn from_number(number: &Number) -> Option<Self> {
        if let Some(whole) = number.as_i64() {
            return (whole.unsigned_abs() < UNIT.unsigned_abs().try_into().ok()?)
                .then(|| Self(i128::from(whole) * UNIT));
        }
        let float = number.as_f64().filter(|f| f.is_finite() && f.abs() < 1e15)?;
        Self::from_shortest(&format!("{float}"))
    }

    /// Reads the shortest decimal text of a binary64: `-12.5`.
    fn from_shortest(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let significant = format!("{whole}{fraction}").trim_start_matches('0').len();
        if fraction.len() > PLACES || (!fraction.is_empty() && significant > PLACES) {
            return None;
        }
        let value = format!("{whole}{fraction:0<PLACES$}").parse::<i128>().ok()?;
        Some(Self(if negative { -value } else { value }))
    }

    /// As a JSON number that [`Decimal::from_number`] reads back to the same value.
    pub fn to_number(self) -> Number {
        match i64::try_from(self.0 / UNIT) {
            Ok(whole) if self.0 % UNIT == 0 => Number::from(whole),
            _ => self.to_string().parse::<f64>().ok().and_then(Number::from_f64).unwrap_or_else(|| 0.into()),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (self.0.abs() / UNIT, self.0.abs() % UNIT);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{fraction:0PLACES$}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Decimal> {
        Decimal::from_number(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn tenths_are_exact() {
        assert_eq!(read("0.1").unwrap().0 + read("0.2").unwrap().0, read("0.3").unwrap().0);
        assert_eq!(read("500"), read("500.0"));
        assert_eq!(read("5e2"), read("500"));
        assert!(read("-1").unwrap() < read("-0.5").unwrap());
        assert!(read("499.99").unwrap() < read("500").unwrap());
    }

    #[test]
    fn what_binary64_cannot_carry_is_refused() {
        for bad in
            ["1e15", "1e300", "0.12345678901234567", "1e-16", "1000000000000000", "18446744073709551615"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_survives_the_way_there_and_back() {
        for text in ["0", "-12.5", "999999999999999", "0.000000000000001", "123456789.123456"] {
            let value = read(text).unwrap();
            assert_eq!(Decimal::from_number(&value.to_number()), Some(value), "{text}");
            assert_eq!(value.to_string(), text);
        }
    }
}
