//! Dates in claims: `NumericDate`, seconds since 1970, perhaps with a fraction (RFC 7519 §2) [JW-05].

use serde_json::{Map, Value};

use super::jws::VerifiedJws;

/// Latest instant accepted, in seconds: the end of the year 9999. Milliseconds taken for seconds lie beyond it,
/// and sums of two accepted dates cannot overflow.
pub const LATEST: i64 = 253_402_300_799;
const LATEST_F64: f64 = 253_402_300_799.0;

/// Which whole second stands for a fractional one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The second before or at it.
    Earlier,
    /// The second at or after it.
    Later,
}

/// The claim is present but is not a number of seconds from 1970 to 9999; strings and `null` are no dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("claim `{0}` is not a number of seconds between the years 1970 and 9999")]
pub struct BadDate(pub &'static str);

/// Reads claim `name` as whole seconds since 1970; none when absent.
pub fn numeric_date(
    claims: &Map<String, Value>,
    name: &'static str,
    rounding: Rounding,
) -> Result<Option<i64>, BadDate> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    seconds(value, rounding).map(Some).ok_or(BadDate(name))
}

/// Whole seconds since 1970; none for what is no date.
pub fn seconds(value: &Value, rounding: Rounding) -> Option<i64> {
    let seconds = value.as_i64().or_else(|| value.as_f64().and_then(|exact| whole(exact, rounding)));
    seconds.filter(|at| (0..=LATEST).contains(at))
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked, and the value is whole")]
fn whole(exact: f64, rounding: Rounding) -> Option<i64> {
    if !(0.0..=LATEST_F64).contains(&exact) {
        return None;
    }
    Some(match rounding {
        Rounding::Earlier => exact.floor() as i64,
        Rounding::Later => exact.ceil() as i64,
    })
}

impl VerifiedJws {
    /// `exp`, rounded earlier: a token never lives longer than its issuer said.
    pub fn expires_at(&self) -> Result<Option<i64>, BadDate> {
        numeric_date(self.claims(), "exp", Rounding::Earlier)
    }

    /// `nbf`, rounded later: a token never works sooner than its issuer said.
    pub fn not_before(&self) -> Result<Option<i64>, BadDate> {
        numeric_date(self.claims(), "nbf", Rounding::Later)
    }

    /// `iat`, rounded earlier. It is compared in two ways: with now, where the leeway swallows the fraction, and
    /// with a revocation's instant, where the earlier second is the one that is revoked (DESIGN §7).
    pub fn issued_at(&self) -> Result<Option<i64>, BadDate> {
        numeric_date(self.claims(), "iat", Rounding::Earlier)
    }

    /// `auth_time`, rounded earlier for the same reason as `iat`.
    pub fn authenticated_at(&self) -> Result<Option<i64>, BadDate> {
        numeric_date(self.claims(), "auth_time", Rounding::Earlier)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value, rounding: Rounding) -> Result<Option<i64>, BadDate> {
        numeric_date(&Map::from_iter([("exp".to_owned(), value)]), "exp", rounding)
    }

    #[test]
    fn jw_05_a_fractional_date_rounds_to_the_safe_side() {
        assert_eq!(read(json!(1_300_819_380.9), Rounding::Earlier), Ok(Some(1_300_819_380)));
        assert_eq!(read(json!(1_300_819_380.1), Rounding::Later), Ok(Some(1_300_819_381)));
        assert_eq!(read(json!(1.3e9), Rounding::Later), Ok(Some(1_300_000_000)));
    }

    #[test]
    fn jw_05_a_string_is_not_a_date() {
        for value in [json!("1300819380"), json!(null), json!(true), json!([1]), json!({})] {
            assert_eq!(read(value, Rounding::Earlier), Err(BadDate("exp")));
        }
    }

    #[test]
    fn a_date_out_of_range_is_refused() {
        assert_eq!(read(json!(LATEST), Rounding::Earlier), Ok(Some(LATEST)));
        assert_eq!(read(json!(0), Rounding::Earlier), Ok(Some(0)));
        for value in [json!(LATEST + 1), json!(-1), json!(-0.5), json!(1e300), json!(u64::MAX)] {
            assert_eq!(read(value, Rounding::Later), Err(BadDate("exp")));
        }
    }

    #[test]
    fn an_absent_date_is_none() {
        assert_eq!(numeric_date(&Map::new(), "exp", Rounding::Earlier), Ok(None));
    }
}
