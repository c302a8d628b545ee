//! Form bodies (`application/x-www-form-urlencoded`, UTF-8): decoded strictly, repeated parameters kept.

/// Most parameters in one form.
const MAX_PARAMETERS: usize = 256;

/// Why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForm {
    /// A `%` without two hex digits.
    #[error("the form is not well-formed application/x-www-form-urlencoded")]
    Encoding,
    /// The decoded octets are not UTF-8, or hold a NUL.
    #[error("the form is not UTF-8 text")]
    Text,
    /// Too many parameters.
    #[error("the form has more than {MAX_PARAMETERS} parameters")]
    TooMany,
}

/// Decodes a form body into its parameters, in order.
pub fn parse(body: &[u8]) -> Result<Vec<(String, String)>, BadForm> {
    let mut parameters = Vec::new();
    for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        if parameters.len() >= MAX_PARAMETERS {
            return Err(BadForm::TooMany);
        }
        let split = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(split);
        parameters.push((decode(key)?, decode(value.get(1..).unwrap_or_default())?));
    }
    Ok(parameters)
}

/// Decodes one key or value: `+` is a space, `%XX` an octet (also the encoding of RFC 6749 §2.3.1).
pub fn decode(text: &[u8]) -> Result<String, BadForm> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        octets.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = rest.next().copied().and_then(hex).ok_or(BadForm::Encoding)?;
                let low = rest.next().copied().and_then(hex).ok_or(BadForm::Encoding)?;
                16 * high + low
            }
            other => *other,
        });
    }
    if octets.contains(&0) {
        return Err(BadForm::Text);
    }
    String::from_utf8(octets).map_err(|_| BadForm::Text)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The first non-empty value of a parameter.
pub fn value<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// The value of a parameter that must be there, once; else what is wrong with it.
pub(super) fn single<'a>(form: &'a [(String, String)], name: &str) -> Result<&'a str, &'static str> {
    if form.iter().filter(|(key, _)| key == name).count() > 1 {
        return Err("is sent more than once");
    }
    value(form, name).ok_or("is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_in_order_with_repetitions() {
        let read = parse(b"a=1&a=2&b=x%20y+z&c&d=%C3%A4&&").unwrap();
        let expected = [("a", "1"), ("a", "2"), ("b", "x y z"), ("c", ""), ("d", "ä")];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_not_text_is_refused() {
        for (body, fault) in [
            (&b"a=%"[..], BadForm::Encoding),
            (b"a=%4", BadForm::Encoding),
            (b"a=%zz", BadForm::Encoding),
            (b"a=%00", BadForm::Text),
            (b"a=%ff", BadForm::Text),
            (b"a=\xff", BadForm::Text),
        ] {
            assert_eq!(parse(body), Err(fault), "{body:?}");
        }
    }
}
