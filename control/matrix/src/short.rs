//! User, device and room ids in logs.

use std::fmt;

/// Shows the beginning of an identifier: enough to tell two apart while debugging, not who it is.
pub(crate) struct Short<'a>(pub(crate) &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(4) {
            fmt::Write::write_char(f, character)?;
        }
        if characters.next().is_some() {
            f.write_str("…")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_first_four_characters() {
        assert_eq!(Short("@alice:example.org").to_string(), "@ali…");
        assert_eq!(Short("ABCD").to_string(), "ABCD");
    }
}
