//! What a YAML text stands for: aliases let a small file stand for gigabytes.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Most that the values of a file may hold once aliases are followed.
const MOST_BYTES: usize = 8 << 20;

/// Deepest that brackets may stand in each other. A parser of YAML takes time by its square; no file of ours has ten.
const DEEPEST: usize = 1000;

/// How the error begins that says so.
const TOO_HEAVY: &str = "its values take more than 8 MiB once aliases are followed";
const TOO_DEEP: &str = "its lists and maps stand in each other more than 1000 deep";

/// Walks a text without keeping it, and stops where its values, aliases followed, become too large.
///
/// # Errors
/// They do, or the text is no YAML. [`is_too_heavy`] tells one from the other.
pub(crate) fn weigh(text: &str) -> Result<(), serde_yaml::Error> {
    // Brackets in texts and comments count too, which only makes the depth of an honest file a little larger than it is.
    let depth = text.bytes().scan(0_usize, |depth, byte| {
        match byte {
            b'[' | b'{' => *depth += 1,
            b']' | b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    if depth.max().is_some_and(|deepest| deepest > DEEPEST) {
        return Err(serde::de::Error::custom(TOO_DEEP));
    }
    let mut left = MOST_BYTES;
    Weigh { left: &mut left }.deserialize(serde_yaml::Deserializer::from_str(text))
}

pub(crate) fn is_too_heavy(error: &serde_yaml::Error) -> bool {
    // serde_yaml has a bound of its own on how often aliases of a short text are followed.
    [TOO_HEAVY, TOO_DEEP, "repetition limit exceeded"].iter().any(|what| error.to_string().contains(what))
}

struct Weigh<'a> {
    left: &'a mut usize,
}

impl Weigh<'_> {
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        // A value costs something by itself, however short.
        *self.left = self.left.checked_sub(bytes + 16).ok_or_else(|| E::custom(TOO_HEAVY))?;
        Ok(())
    }

    fn part(&mut self) -> Weigh<'_> {
        Weigh { left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Weigh<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Weigh<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        self.take(value.len())
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.take(0)?;
        while items.next_element_seed(self.part())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.take(0)?;
        while entries.next_key_seed(self.part())?.is_some() {
            entries.next_value_seed(self.part())?;
        }
        Ok(())
    }

    // A tag, such as `!secret`, stands for what it is at.
    fn visit_enum<A: serde::de::EnumAccess<'de>>(mut self, tagged: A) -> Result<(), A::Error> {
        self.take(0)?;
        let ((), value) = tagged.variant_seed(self.part())?;
        serde::de::VariantAccess::newtype_variant_seed(value, self.part())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_weighed_as_what_they_stand_for() {
        // Each step names the one before twice: 2^20 texts of 8 bytes.
        let mut text = "a0: &a0 [xxxxxxxx]\n".to_owned();
        for step in 1..=20 {
            text += &format!("a{step}: &a{step} [*a{0}, *a{0}]\n", step - 1);
        }
        let error = weigh(&text).unwrap_err();
        assert!(is_too_heavy(&error), "{error}");
        assert!(!is_too_heavy(&weigh("a: [").unwrap_err()));
        weigh("a: &a [1, 2.5, x, true, null, !tag y]\nb: *a\n").unwrap();
    }

    #[test]
    fn many_plain_values_are_too_heavy_too() {
        assert!(weigh(&"- 1\n".repeat(100_000)).is_ok());
        assert!(is_too_heavy(&weigh(&"- 1\n".repeat(600_000)).unwrap_err()));
        assert!(is_too_heavy(&weigh(&"[".repeat(100_000)).unwrap_err()));
        // An unbalanced bracket in a text is nothing.
        assert!(weigh(&"- '['\n".repeat(900)).is_ok());
    }
}
